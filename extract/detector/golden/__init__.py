"""Golden numbers of the detector: reading, comparing, writing them, and the miniature that travels with the package."""
