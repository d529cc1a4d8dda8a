"""The pairs: what they are, how they are labelled and split, and what is odd about them.

Reads datasets into a manifest, annotations, labels and splits on disk. Knows nothing of features, encoders or heads.
"""
