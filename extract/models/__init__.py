"""Where models come from: what a profile names, where it lies, what it is made of. Loads no network into memory."""
