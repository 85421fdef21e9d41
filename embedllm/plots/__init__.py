"""Figures: each function takes a matrix or a tidy frame and returns a matplotlib figure, one module for each page."""
