"""From the feature cache to batches of tensors."""
