"""Golden files of the heads: numbers of independent float64 runs, and the check that ours are the same."""
