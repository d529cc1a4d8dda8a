"""Is a feature set what was written, and what of it can be made whole again? The door is `verify` and `mend.repair`.

`evidence` weighs what recipe, journal and index say, `recognise` what a shard says of itself, `scan` reads a whole file
once, `raw` and `salvage` read rows out of damaged ones and prove them, `guess` offers what was lost, `unflip` turns one
bit back. Recomputes nothing: `extract/repair.py` does.
"""
