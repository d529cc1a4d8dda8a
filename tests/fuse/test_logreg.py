"""The logistic regression is scikit-learn's, number by number, and its C is validation's choice."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sentifuse import TrainingError
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.features.samples import open_features
from sentifuse.fuse.heads.logreg import GRID, LogReg, LogRegConfig
from sentifuse.fuse.infer import infer_logits

CPU = torch.device("cpu")


def pooled(source: BatchSource) -> np.ndarray:
    rows = []
    for id_ in source.ids:
        states = source._readers["tokens"].value(id_, "states").astype(np.float64)
        mean = states.mean(0) if len(states) else np.zeros(12)
        rows.append(np.concatenate([mean, source._readers["context"].value(id_, "vector").astype(np.float64)]))
    return np.array(rows)


def sources(world: Any, class_count: int) -> tuple[BatchSource, BatchSource]:
    readers = open_features(world.artifacts, world.name, LogReg.needs)
    # Pairs without words are left to the missing-modality test: here both sides see the same numbers.
    ids = [id_ for id_ in readers["tokens"].ids if len(readers["tokens"].value(id_, "states"))]
    labels = np.array([int(id_[1:]) % class_count for id_ in ids])
    return (
        BatchSource(readers, LogReg.needs, ids[:50], labels[:50]),
        BatchSource(readers, LogReg.needs, ids[50:], labels[50:]),
    )


@pytest.mark.parametrize("class_count", [2, 3])
@pytest.mark.parametrize("c", [1e-3, 1.0])
def test_logits_are_the_decision_function(world: Any, class_count: int, c: float) -> None:
    train, val = sources(world, class_count)
    head = LogReg(LogRegConfig(c=c), train.widths, class_count)
    head.fit(train, val)
    scaler = StandardScaler().fit(pooled(train))
    model = LogisticRegression(C=c, max_iter=20000, tol=1e-5).fit(scaler.transform(pooled(train)), train.labels)
    expected = model.decision_function(scaler.transform(pooled(val)))
    found = infer_logits(head, val, device=CPU)
    if class_count == 2:
        np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-6)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_c_is_the_best_of_the_whole_grid_on_validation(world: Any) -> None:
    train, val = sources(world, 3)
    head = LogReg(LogRegConfig(), train.widths, 3)
    history = head.fit(train, val)
    assert [row["c"] for row in history] == list(GRID)
    assert len(GRID) >= 10
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert float(head.c) == best["c"]
    found = infer_logits(head, val, device=CPU)
    assert (found.argmax(1) == val.labels).mean() == pytest.approx(best["val_accuracy"])


def test_a_missing_modality_counts_as_its_mean(world: Any) -> None:
    train, val = sources(world, 3)
    head = LogReg(LogRegConfig(c=1.0), train.widths, 3)
    head.fit(train, val)
    batch = val.gather([0])
    batch.masks["tokens.states"][:] = False
    with torch.no_grad():
        found = head(batch).logits
    x = (batch.values["context.vector"].double() - head.mean[12:]) / head.scale[12:]
    torch.testing.assert_close(found, x @ head.weight[:, 12:].T + head.bias)


def test_a_constant_feature_keeps_its_scale(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = sources(world, 3)
    stream = BatchSource.stream

    def with_a_constant(self: BatchSource, plan: Any) -> Any:
        for batch in stream(self, plan):
            batch.values["tokens.states"][..., 0] = 0.1
            yield batch

    monkeypatch.setattr(BatchSource, "stream", with_a_constant)
    head = LogReg(LogRegConfig(c=1.0), train.widths, 3)
    head.fit(train, val)
    assert float(head.scale[0]) == 1.0
    assert (head.scale[1:] != 1.0).all()


def test_a_fit_that_did_not_converge_is_refused(world: Any) -> None:
    train, val = sources(world, 3)
    head = LogReg(LogRegConfig(c=1.0, max_iterations=1), train.widths, 3)
    with pytest.raises(TrainingError, match=r"C = 1: not converged after 1 iterations.*--set max_iterations"):
        head.fit(train, val)


def test_pairs_without_words_are_learned_from_as_they_are_answered(world: Any) -> None:
    readers = open_features(world.artifacts, world.name, LogReg.needs)
    ids = readers["tokens"].ids
    labels = np.array([int(id_[1:]) % 3 for id_ in ids])
    train, val = (BatchSource(readers, LogReg.needs, list(ids[p]), labels[p]) for p in (slice(50), slice(50, None)))
    x = pooled(train)
    is_empty = (x[:, :12] == 0).all(1)
    assert is_empty.any()
    x[is_empty, :12] = np.nan  # StandardScaler leaves out what is not there
    x = np.nan_to_num(StandardScaler().fit_transform(x), nan=0.0)
    head = LogReg(LogRegConfig(c=1e-2), train.widths, 3)
    history = head.fit(train, val)
    model = LogisticRegression(C=1e-2, max_iter=20000, tol=1e-5).fit(x, train.labels)
    np.testing.assert_allclose(head.weight.numpy(), model.coef_, atol=1e-5)
    found = infer_logits(head, val, device=CPU)
    assert (found.argmax(1) == val.labels).mean() == pytest.approx(history[0]["val_accuracy"])
