"""Late fusion is the mean of two scikit-learn regressions, each with its own C; a missing voice is silent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sentifuse import TrainingError
from sentifuse.fuse.features.batches import BatchSource
from sentifuse.fuse.features.samples import open_features
from sentifuse.fuse.heads.late_lr import SHARES, LateLr, LateLrConfig
from sentifuse.fuse.infer import infer_logits, softmax
from sentifuse.fuse.run import count_parameters

CPU = torch.device("cpu")
HALF, REST = slice(0, 50), slice(50, None)
SIZES = {"text": 12, "image": 7}


def vectors(source: BatchSource) -> dict[str, np.ndarray]:
    readers = source._readers
    return {
        "text": np.array([readers["tokens"].value(i, "states").astype(np.float64).mean(0) for i in source.ids]),
        "image": np.array([readers["context"].value(i, "vector").astype(np.float64) for i in source.ids]),
    }


def sources(world: Any, class_count: int = 3) -> tuple[BatchSource, BatchSource]:
    readers = open_features(world.artifacts, world.name, LateLr.needs)
    ids = [id_ for id_ in readers["tokens"].ids if len(readers["tokens"].value(id_, "states"))]
    labels = np.array([int(id_[1:]) % class_count for id_ in ids])
    return (
        BatchSource(readers, LateLr.needs, ids[:50], labels[:50]),
        BatchSource(readers, LateLr.needs, ids[50:], labels[50:]),
    )


@pytest.mark.parametrize("class_count", [2, 3])
def test_probabilities_are_the_mean_of_both_voices(world: Any, class_count: int) -> None:
    train, val = sources(world, class_count)
    head = LateLr(LateLrConfig(c=0.1), train.widths, class_count)
    history = head.fit(train, val)
    expected = np.zeros((len(val), class_count))
    x, x_val = vectors(train), vectors(val)
    for name in SIZES:
        scaler = StandardScaler().fit(x[name])
        model = LogisticRegression(C=0.1, max_iter=20000, tol=1e-5).fit(scaler.transform(x[name]), train.labels)
        expected += 0.5 * model.predict_proba(scaler.transform(x_val[name]))
    found = softmax(infer_logits(head, val, device=CPU))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [row["image_share"] for row in history] == [0.5]
    assert history[0]["val_accuracy"] == pytest.approx((expected.argmax(1) == val.labels).mean())


def test_each_voice_chooses_its_own_c(world: Any) -> None:
    train, val = sources(world)
    head = LateLr(LateLrConfig(), train.widths, 3)
    history = head.fit(train, val)
    x, x_val = vectors(train), vectors(val)
    for name in SIZES:
        accuracies = {}
        scaler = StandardScaler().fit(x[name])
        for c in (1e-4, history[0][f"c_{name}"], 10.0):
            model = LogisticRegression(C=c, max_iter=20000, tol=1e-5).fit(scaler.transform(x[name]), train.labels)
            accuracies[c] = model.score(scaler.transform(x_val[name]), val.labels)
        assert accuracies[history[0][f"c_{name}"]] == max(accuracies.values())


def test_the_share_is_the_best_on_validation(world: Any) -> None:
    train, val = sources(world)
    head = LateLr(LateLrConfig(weighted=True), train.widths, 3)
    history = head.fit(train, val)
    assert [row["image_share"] for row in history] == pytest.approx(SHARES)
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert float(head.image_share) == best["image_share"]
    found = infer_logits(head, val, device=CPU)
    assert (found.argmax(1) == val.labels).mean() == pytest.approx(best["val_accuracy"])


def test_a_missing_voice_is_silent(world: Any) -> None:
    train, val = sources(world)
    head = LateLr(LateLrConfig(c=0.1), train.widths, 3).eval()
    head.fit(train, val)
    batch = val.gather(range(6), copy=True)
    for key, voice in (("tokens.states", "image"), ("context.vector", "text")):
        masked = replace(batch, masks={**batch.masks, key: torch.zeros_like(batch.masks[key])})
        output = head(masked)
        torch.testing.assert_close(output.logits.exp(), output.details[f"{voice}_probabilities"])
        assert output.details["absent"].sum(0).tolist() == ([6, 0] if key == "tokens.states" else [0, 6])


def test_pairs_without_a_text_are_learned_from_as_they_are_answered(world: Any) -> None:
    readers = open_features(world.artifacts, world.name, LateLr.needs)
    ids = readers["tokens"].ids
    labels = np.array([int(id_[1:]) % 3 for id_ in ids])
    train, val = (BatchSource(readers, LateLr.needs, list(ids[part]), labels[part]) for part in (HALF, REST))
    has_words = np.array([len(readers["tokens"].value(id_, "states")) > 0 for id_ in ids])
    assert not has_words[HALF].all()
    assert not has_words[REST].all()
    head = LateLr(LateLrConfig(c=0.1), train.widths, 3)
    history = head.fit(train, val)
    states = [readers["tokens"].value(id_, "states").astype(np.float64) for id_ in ids[HALF]]
    means = np.array([words.mean(0) if len(words) else np.full(12, np.nan) for words in states])
    x = StandardScaler().fit_transform(means)  # leaves out what is not there
    model = LogisticRegression(C=0.1, max_iter=20000, tol=1e-5).fit(np.nan_to_num(x, nan=0.0), labels[HALF])
    np.testing.assert_allclose(head.text.weight.numpy(), model.coef_, atol=1e-5)
    found = infer_logits(head, val, device=CPU)
    assert history[0]["val_accuracy"] == pytest.approx((found.argmax(1) == val.labels).mean())
    own_loss = -np.log(softmax(found)[np.arange(len(val)), val.labels]).mean()
    assert history[0]["val_loss"] == pytest.approx(own_loss, abs=1e-6)


def test_learned_numbers_are_counted() -> None:
    head = LateLr(LateLrConfig(), {"tokens.states": 768, "context.vector": 512}, 3)
    weights = sum(b.numel() for name, b in head.named_buffers() if name.endswith(("weight", "bias")))
    assert weights == 3_846
    assert count_parameters(head) == 3_846 + 2 * (768 + 512) + 3  # means, scales, both C and the share


def test_a_fit_that_does_not_converge_names_the_voice(world: Any) -> None:
    train, val = sources(world)
    with pytest.raises(TrainingError, match=r"late_lr, text, C = .*Raise the limit"):
        LateLr(LateLrConfig(max_iterations=1), train.widths, 3).fit(train, val)
