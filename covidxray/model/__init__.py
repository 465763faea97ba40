"""The frozen network, its heads, and the saved model file."""
