"""One damaged file of the archives, and what must come of it."""

from dataclasses import dataclass

__all__ = ["Damage"]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A file, and what must come of it.

    Attributes
    ----------
    name : str
        Of the file; it says what is wrong.
    error : str
        The class of the error; "accepted" for what a crash may leave, "verify" for what only a check of every byte
        finds.
    message : str
        What the error, or the fault that `verify` finds, must say.
    when : str
        "open": a reader is opened. "check": its rows are proved. "write": a writer opens the set. "verify".
    record : str
        For a shard: "own", the index names the damaged file's size and digest; "base", those it had.
    """

    name: str
    content: bytes
    error: str
    message: str
    when: str = "open"
    record: str = "own"
