"""fuse: features in the cache → heads, training, runs and figures. Never looks at an image or a text."""
