"""How predictors are compared: runs over seeds, scores, intervals, reported and published values, timing."""
