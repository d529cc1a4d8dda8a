"""Is a feature set what was written, and what of it can be made whole again? The door is `verify` and `mend.repair`.

`evidence` weighs what recipe, journal and index say, `recognise` what a shard says of itself, `raw` and `salvage` read
rows out of damaged files and prove them, `unflip` turns one bit back. Recomputes nothing: `extract/repair.py` does.
"""
