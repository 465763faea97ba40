"""Audit of a data set: whether its labels can be predicted without any anatomy."""
