"""A stand-in for detectron2 with exactly the names and calls that our adapter uses; see test_region_backends.py.

It computes: small networks out of torch and torchvision, by the published definitions. Nothing of the real one is here.
"""

__version__ = "0.0"
