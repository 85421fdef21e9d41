"""The machinery of the book: executed notebooks, checked numbers, figures with their sources."""
