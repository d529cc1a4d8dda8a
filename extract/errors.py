"""The errors of extraction: what is missing and what does not fit. Knows nothing about how models are loaded."""

from collections.abc import Sequence

from sentifuse import ResourceError

__all__ = ["MissingModel", "ModelMismatch", "ModelsMissing"]


class MissingModel(ResourceError):
    """One model cannot be had; the message names it, its pinned digest, the places looked at and what to do."""


class ModelMismatch(ResourceError):
    """A model file is there but is not the one meant: another digest or architecture, torn, tensors missing."""


class ModelsMissing(ResourceError):
    """Everything a profile needs and cannot have, in one message.

    Parameters
    ----------
    profile
        Name of the profile.
    missing
        Pairs of an encoder's name and the error that says why its model is not there.
    available
        The encoders whose models are there.
    others
        The shipped profiles that would run as they are.
    """

    def __init__(
        self,
        profile: str,
        missing: Sequence[tuple[str, ResourceError]],
        available: Sequence[str],
        others: Sequence[str] = ("tiny",),
    ) -> None:
        self.profile = profile
        self.missing = tuple(missing)
        self.available = tuple(available)
        self.others = tuple(others)
        names: dict[str, list[str]] = {}  # encoders by what is said of their model: many share one
        for name, error in self.missing:
            names.setdefault(str(error), []).append(name)
        count = len(names)
        lines = [f"profile {profile!r} needs {count} model{'s' if count > 1 else ''} that cannot be had:"]
        lines += [f"  {', '.join(encoders)}: {error}" for error, encoders in names.items()]
        ways = []
        if self.available:
            ways.append(f"leave them out with --skip-missing (runs {', '.join(self.available)})")
        ways += [f"--profile {other}" for other in self.others]
        if ways:
            lines.append(f"Works now: {', or '.join(ways)}")
        if not self.available and profile not in ("offline", "tiny") and "offline" not in self.others:
            lines.append(
                "--profile offline lacks something too; what it needs: sentifuse weights list --profile offline"
            )
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type["ModelsMissing"], tuple[object, ...]]:
        return type(self), (self.profile, self.missing, self.available, self.others)
