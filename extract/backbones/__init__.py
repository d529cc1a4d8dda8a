"""The networks themselves, one file per family; each makes one forward pass that several encoders may read."""
