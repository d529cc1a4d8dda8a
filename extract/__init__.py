"""Stage 1: images and texts become features, shard by shard. Knows nothing about labels or heads."""
