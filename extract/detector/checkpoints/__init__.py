"""Weights files of the detector in the layouts that go around: telling, reading, checking and rewriting them."""
