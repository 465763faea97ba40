"""Training runs and evaluations of a saved model, from configuration to results."""
