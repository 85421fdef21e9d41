"""What the pages of the book compute, one module for each page."""
