"""The Faster R-CNN trained on Visual Genome (ResNet-101 C4, 1600 objects, 400 attributes), from ordinary torch parts.

`detector.py` is the door: it loads weights, prepares images and gives regions. `network.py` says plainly what is
computed; `fast.py` computes the same sooner. This package knows nothing of encoders, caches or profiles.
"""
