"""The commands: each parses, calls one function of a room, and prints. No logic of the job lives here.

Files of this folder import only the standard library and typer at their top, so that `--help` stays fast; rooms are
imported inside the commands.
"""
