"""`distil train` and `distil features` as they are typed: from labels to features that a fusion finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.data.source import SENTIMENT

Type = Callable[..., Any]
N = 48
SMALL = ("--set", "epochs=2", "--set", "batch_size=16", "--set", "width=8")


def test_a_probe_is_trained_out_of_fold_and_its_features_are_current(pairs: Path, type_command: Type) -> None:
    words = ("--dataset", "shop", "--artifacts", pairs)
    typed = type_command("distil", "train", "--student", "probe", "--folds", "3", "--name", "one", *SMALL, *words)
    assert typed.code == 0, typed.err
    assert "train: 41 images (" in typed.err
    assert "split: the kept set's own two parts" in typed.err
    assert "without fold 3/3: epoch 2/2" in typed.err
    assert "cannot load" not in typed.err
    assert "next: sentifuse distil features --student one --dataset shop" in typed.err
    assert "without fold 2" in typed.out
    typed = type_command("distil", "features", "--student", "one", "--json", *words)
    assert typed.code == 0, typed.err
    assert (typed.document["pairs"], typed.document["computed"]) == (N, N)
    assert sorted(typed.document["by_fold"]) == ["1", "2", "3"]
    reader = FeatureReader(read_current(pairs / "cache" / "shop").directory("crowd"))
    assert str(reader.feature_set.directory) == typed.document["feature_set"]
    assert reader.statuses() == {"ok": N}
    again = type_command("distil", "features", "--student", "one", *words)
    assert "0 computed, 48 there already" in again.out


def test_extract_refuses_the_student_on_what_it_saw_and_agrees_with_it_elsewhere(
    pairs: Path, tmp_path: Path, type_command: Type
) -> None:
    """A student without folds: `extract` from its folder alone gives what `distil features` gives."""
    words = ("--artifacts", pairs)
    typed = type_command("distil", "train", "--name", "two", "--dataset", "shop", "--json", *SMALL, *words)
    assert typed.code == 0, typed.err
    profile = tmp_path / "student.toml"
    profile.write_text(f'[encoders.crowd]\nmodel = {{ path = "{typed.document["student"]}" }}\n')
    refused = type_command("extract", "--dataset", "shop", "--profile", profile, "--device", "cpu", *words)
    assert refused.code == 3, refused.err
    assert "distil features --student" in refused.err
    for i in range(4):
        pixels = np.random.default_rng(1000 + i).integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    rows = [f"{i},{i}.png,other words {i},{SENTIMENT[i % 3]}" for i in range(4)]
    (tmp_path / "pairs.csv").write_text("\n".join(["id,image,text,label", *rows]) + "\n")
    table = ("--table", tmp_path / "pairs.csv", "--root", tmp_path)
    assert type_command("data", "prepare", "pairs", "--name", "other", *table, *words).code == 0
    extract = ("extract", "--dataset", "other", "--device", "cpu", *words)
    assert type_command(*extract, "--profile", "tiny", "--encoders", "context").code == 0
    found = type_command("distil", "features", "--student", "two", "--dataset", "other", "--json", *words)
    assert found.code == 0, found.err
    cached = FeatureReader(Path(found.document["feature_set"]))
    assert type_command(*extract, "--profile", profile).code == 0
    computed = FeatureReader(read_current(pairs / "cache" / "other").directory("crowd"))
    assert computed.fingerprint != cached.fingerprint
    for id_ in cached.ids:
        for field in ("probabilities", "embedding"):
            assert np.allclose(cached.value(id_, field), computed.value(id_, field), atol=1e-5)


def test_labels_by_people_are_trained_on_for_comparison(pairs: Path, type_command: Type) -> None:
    words = ("--dataset", "shop", "--artifacts", pairs)
    typed = type_command("distil", "train", "--label", "image_label", "--json", *SMALL, *words)
    assert typed.code == 0, typed.err
    assert typed.document["scored_against"] == "people"
    assert typed.document["trained_on"]["split"]["protocol"] == "random"
    assert "split random, seed 0, rule " in typed.err
    assert "human labels are known to the teacher or used here" in typed.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("distil", "train", "--student", "prob"), 2, "did you mean 'probe'"),
        (("distil", "train", "--set", "epoch=3"), 2, "did you mean 'epochs'"),
        (("distil", "train", "--kept", "other"), 3, "distil filter"),
        (("distil", "train", "--student", "full"), 2, "--base"),
        (("distil", "train", "--folds", "1"), 2, "--folds"),
        (("distil", "train", "--fold", "1"), 2, "--protocol grouped-folds"),
        (("distil", "train", "--log", "tensorbord"), 2, "tensorboard"),
        (("distil", "train", "--features", "clip.image"), 4, "extract --dataset shop --encoders clip"),
        (("distil", "features", "--student", "nobody"), 2, "expected a student folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    pairs: Path, type_command: Type, words: tuple[str, ...], code: int, said: str
) -> None:
    typed = type_command(*words, "--dataset", "shop", "--artifacts", pairs)
    assert typed.code == code
    assert said in typed.err
    assert "Traceback" not in typed.err
