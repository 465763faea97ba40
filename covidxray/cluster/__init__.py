"""The model's work on a Ray cluster."""
