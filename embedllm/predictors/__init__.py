"""What predicts whether a model answers a question correctly."""
