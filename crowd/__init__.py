"""The crowd: a visual sentiment student, taught by what a text model says of tweets, and its benchmarks."""
