"""sentifuse: image–text sentiment in two stages. Version and error tree; imports nothing heavy.

SentifuseError            exit 1
├─ ConfigError            exit 2   a bad option, an unknown name or key
├─ DataError              exit 3   manifest, label, image, text
├─ CacheError             exit 4   a shard or an index refused
├─ ResourceError          exit 5   weights, a package or a device missing
└─ TrainingError          exit 6   a loss that is not finite, a class missing in the training part

Every message says where, what was expected, what was found and what to do. Anything else that reaches
the user is a bug: traceback, exit 1. Ctrl-C exits with 130, SIGTERM with 143.
"""

from collections.abc import Iterable

__version__ = "0.1.0"

__all__ = [
    "CacheError",
    "ConfigError",
    "DataError",
    "ResourceError",
    "SentifuseError",
    "TrainingError",
    "__version__",
]


class SentifuseError(Exception):
    """Root of all errors this project raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(SentifuseError):
    """A bad option or an unknown name: nothing was started."""

    exit_code = 2

    @classmethod
    def unknown(cls, kind: str, name: str, known: Iterable[str], *, where: str = "") -> "ConfigError":
        """An unknown name, with the names there are and the nearest one.

        >>> str(ConfigError.unknown("head", "itni", ["itin", "logreg"], where="--head"))
        "--head: unknown head 'itni'; did you mean 'itin'? There are: itin, logreg"
        """
        from difflib import get_close_matches  # imported here: 10 ms that only a mistake pays for

        names = sorted(known)
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        prefix = f"{where}: " if where else ""
        return cls(f"{prefix}unknown {kind} {name!r}{hint} There are: {', '.join(names) or 'none'}")


class DataError(SentifuseError):
    """Something is wrong with a manifest, a label file, an image or a text."""

    exit_code = 3


class CacheError(SentifuseError):
    """A shard, an index or a feature set was refused."""

    exit_code = 4


class ResourceError(SentifuseError):
    """Weights, a package or a device that the work needs are not there."""

    exit_code = 5


class TrainingError(SentifuseError):
    """Training cannot go on: a loss that is not finite, a class without samples."""

    exit_code = 6
