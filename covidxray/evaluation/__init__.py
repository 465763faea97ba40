"""Splits, scores and their 95 % intervals: NumPy, SciPy and scikit-learn only."""
