"""Benchmarks of visual sentiment with human labels: a student's answers, scored as its paper did and more closely."""
