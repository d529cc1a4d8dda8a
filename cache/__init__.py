"""The feature cache: what encoders made, kept in HDF5 shards that are whole or not there. Knows nothing about models.

`featureset` makes and opens a feature set, `writer` adds shards to it, `reader` maps them, `fingerprint` names the
recipe behind the numbers. `FORMAT.md` in this folder is the normative text; where code and text differ, one is a bug.
"""
