"""What decides which regions of an image are given: the rule and its numbers. Imports no torch."""

from dataclasses import dataclass, fields

from sentifuse import ConfigError
from sentifuse.extract.settings import check_choice, check_range

__all__ = ["MODES", "SelectionSettings"]

MODES = ("fixed36", "caffe36", "adaptive")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """What decides which regions are given.

    Attributes
    ----------
    mode
        "fixed36", "caffe36" or "adaptive": see `selection.py`.
    count
        Regions at most in the first two modes.
    fewest, most
        Bounds of the third.
    proposals
        Boxes looked at. Time falls in proportion, but below 300 the regions are others.
    """

    mode: str = "fixed36"
    count: int = 36
    fewest: int = 10
    most: int = 100
    proposals: int = 300

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_range("proposals", self.proposals, 1, 6000)
        if self.mode == "adaptive":
            self._check_most("most")
            check_range("fewest", self.fewest, 0, self.most)
        else:
            self._check_most("count")

    def _check_most(self, name: str) -> None:
        """There cannot be more regions than proposals, not even by a number that nobody gave."""
        value = getattr(self, name)
        if value > self.proposals:
            is_default = value == {field.name: field.default for field in fields(self)}[name]
            raise ConfigError(
                f"{name} is {value}{' (its default)' if is_default else ''}, more than proposals = {self.proposals}: "
                f"set {name} too, or raise proposals"
            )
        check_range(name, value, 1, self.proposals)
