"""Figures: each function takes a matrix or a tidy frame and returns a matplotlib figure, or, in `explore`,
an HTML page; one module for each page."""
