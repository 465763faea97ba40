"""Command lines whose options are also those of functions: training and evaluation."""
