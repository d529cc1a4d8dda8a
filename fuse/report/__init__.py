"""A run or a comparison as one HTML page that needs no other file: for a browser, for paper, for an archive."""
