"""Drawn radiographs with known truth."""
