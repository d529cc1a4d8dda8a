"""From texts to labelled images: a teacher's shares for every pair, the filter, the kept set."""
