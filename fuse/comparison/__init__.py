"""Heads side by side: which runs are wanted, which exist, what is trained, and what the table says."""
