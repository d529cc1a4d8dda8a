"""CTMWA's meta set: a share of the training part with labels of text and image alone, kept from the training batches.

Its vectors are computed once and stay in memory: batches in fixed order, one after another, from the first again with
each epoch. Knows no network.
"""

import numpy as np

from sentifuse.fuse.features.batches import BatchSource, Rows
from sentifuse.fuse.heads.ctmwa_step import Vectors

SHOWN_IDS = 10
STREAM = 11  # keeps these draws apart from others with the same seed


def choose_meta_rows(source: BatchSource, share: float, seed: int) -> Rows:
    """Positions, rising: of every class this share of its pairs, at least one and never all; none without labels.

    Only pairs with a label of the text and one of the image can be chosen.
    """
    if source.labels is None or source.text_labels is None or source.image_labels is None:
        return np.zeros(0, dtype=np.int64)
    can_be_chosen = (source.text_labels >= 0) & (source.image_labels >= 0)
    rng = np.random.default_rng([seed, STREAM])
    chosen = []
    for label in np.unique(source.labels):
        of_class = np.flatnonzero(source.labels == label)
        candidates = of_class[can_be_chosen[of_class]]
        wanted = min(max(1, round(share * len(of_class))), len(of_class) - 1, len(candidates))
        chosen.append(rng.choice(candidates, wanted, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)


class MetaBatches:
    """The meta set in batches; the last one may be smaller."""

    def __init__(self, batches: list[Vectors]) -> None:
        if not batches:
            raise ValueError("a meta set needs at least one batch")
        self.batches = batches
        self.place = 0

    def restart(self) -> None:
        """Begin with the first batch again: an epoch has begun."""
        self.place = 0

    def next(self) -> Vectors:
        """The batch whose turn it is; after the last comes the first."""
        batch = self.batches[self.place % len(self.batches)]
        self.place += 1
        return batch


def tell_not_finite(meta_loss: float, ids: tuple[str, ...], meta_ids: tuple[str, ...]) -> str:
    """The message for a meta loss that is no finite number: both batches may be its cause."""
    return (
        f"head ctmwa: the meta loss after a virtual step is {meta_loss}, expected a finite number; the training loss "
        f"is one. Pairs of this batch: {_name(ids)}. Pairs of the meta batch: {_name(meta_ids)}. Shorten the virtual "
        "step (--set inner_learning_rate=1e-4), or look at these pairs' features"
    )


def _name(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:SHOWN_IDS]) + (f", … ({len(ids)} in all)" if len(ids) > SHOWN_IDS else "")
