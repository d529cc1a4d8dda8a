"""What test answers say: metrics, intervals, paired tests, subsets. Knows arrays and predictions, never a head."""
