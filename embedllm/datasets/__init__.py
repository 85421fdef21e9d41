"""Where correctness matrices come from: named data sets, evaluation logs, and a simulated pool."""
