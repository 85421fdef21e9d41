"""What all layers stand on: checks of values, files and caches, the division of questions, the file of a matrix."""
