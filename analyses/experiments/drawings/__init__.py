"""Figures of experiments, one file for each: drawn from stored results alone."""
