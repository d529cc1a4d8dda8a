"""CTMWA's meta set: which pairs, and in what order."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentifuse.fuse.heads.ctmwa_meta import MetaBatches, choose_meta_rows
from sentifuse.fuse.heads.ctmwa_step import Vectors


class Labels:
    """What is looked at of a training part."""

    def __init__(self, labels: Any, text_labels: Any, image_labels: Any) -> None:
        self.labels, self.text_labels, self.image_labels = labels, text_labels, image_labels


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    share=st.floats(0.0, 0.9),
    unlabelled=st.floats(0.0, 1.0),
    seed=st.integers(0, 5),
)
def test_of_every_class_its_share_of_pairs_with_both_labels(
    counts: list[int], share: float, unlabelled: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    has_text, has_image = rng.random((2, len(labels))) >= unlabelled
    source = Labels(labels, np.where(has_text, 0, -1), np.where(has_image, 1, -1))
    rows = choose_meta_rows(source, share, seed)  # type: ignore[arg-type]
    assert (np.diff(rows) > 0).all()
    assert (has_text & has_image)[rows].all()
    for label, count in enumerate(counts):
        candidates = int((has_text & has_image & (labels == label)).sum())
        expected = min(max(1, round(share * count)), count - 1, candidates)
        assert int((labels[rows] == label).sum()) == expected
    assert np.array_equal(rows, choose_meta_rows(source, share, seed))  # type: ignore[arg-type]


def test_another_seed_takes_other_pairs() -> None:
    labels = np.arange(300) % 3
    source = Labels(labels, labels, labels)
    assert not np.array_equal(
        choose_meta_rows(source, 0.1, 0),  # type: ignore[arg-type]
        choose_meta_rows(source, 0.1, 1),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("lacking", ["labels", "text_labels", "image_labels"])
def test_without_labels_there_is_no_meta_set(lacking: str) -> None:
    source = Labels(*(np.arange(30) % 3 for _ in range(3)))
    setattr(source, lacking, None)
    assert len(choose_meta_rows(source, 0.1, 0)) == 0  # type: ignore[arg-type]


def test_batches_go_round_and_begin_anew() -> None:
    batches = [
        Vectors(text=torch.zeros(n, 1), image=torch.zeros(n, 1), labels=torch.zeros(n).long()) for n in (3, 3, 1)
    ]
    meta = MetaBatches(batches)
    assert [len(meta.next()) for _ in range(5)] == [3, 3, 1, 3, 3]
    meta.restart()
    assert meta.next() is batches[0]
    with pytest.raises(ValueError, match="at least one batch"):
        MetaBatches([])
