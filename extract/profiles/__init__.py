"""The profiles that come with the package: TOML files, read by `sentifuse.extract.profile`."""
