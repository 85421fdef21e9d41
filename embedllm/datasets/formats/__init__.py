"""Readers of evaluation logs, one module for each format."""
