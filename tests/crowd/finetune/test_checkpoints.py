"""Laws of checkpoints: whole or not at all, of this training or refused, and nothing in them is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError, DataError
from sentifuse.crowd.finetune.checkpoints import CHECKPOINT, Checkpoints, TensorFile

IDENTITY = {"seed": 0, "recipe.epochs": 3}


def checkpoints(folder: Path, **changes: Any) -> Checkpoints:
    return Checkpoints(folder, IDENTITY | changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = checkpoints(tmp_path / "new")
    assert store.read() is None
    state = {"step": 3, "history": [{"loss": 0.1, "val": None}], "weights": {"a": torch.arange(4.0)}, "best_file": ""}
    store.write(state)
    found = store.read()
    assert found is not None
    assert torch.equal(found.pop("weights")["a"], torch.arange(4.0))
    assert found == {key: value for key, value in state.items() if key != "weights"}


def test_another_training_is_refused_with_the_differences(tmp_path: Path) -> None:
    checkpoints(tmp_path).write({})
    with pytest.raises(ConfigError, match=r"recipe\.epochs was 3, is 4; seed was 0, is 1\. Go on with the settings"):
        checkpoints(tmp_path, **{"seed": 1, "recipe.epochs": 4}).read()


@pytest.mark.parametrize("size", [0, 1, 200])
def test_a_torn_file_is_refused(tmp_path: Path, size: int) -> None:
    store = checkpoints(tmp_path)
    store.write({"weights": torch.zeros(100)})
    store.path.write_bytes(store.path.read_bytes()[:size])
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        store.read()


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"format": 1, "identity": IDENTITY, "state": Trap()}, tmp_path / CHECKPOINT)
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        checkpoints(tmp_path).read()
    assert not (tmp_path / "sprung").exists()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = checkpoints(tmp_path)
    store.write({"step": 1})

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(DataError, match=r"No space left.*What was there before is untouched"):
        store.write({"step": 2})
    monkeypatch.undo()
    found = store.read()
    assert found is not None
    assert found["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_older_best_weights_stay_until_a_checkpoint_names_newer_ones(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    old = store.write_best(5, {"a": torch.ones(2)})
    store.write({"best_file": old})
    new = store.write_best(9, {"a": torch.zeros(2)})
    assert torch.equal(store.read_best(old)["a"], torch.ones(2))
    store.write({"best_file": new})
    assert [path.name for path in sorted(tmp_path.iterdir())] == [new, CHECKPOINT]
    (tmp_path / new).write_bytes(b"torn")
    with pytest.raises(DataError, match="best weights so far cannot be read"):
        store.read_best(new)
    store.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_result_on_disk_is_read_back_one_tensor_at_a_time_and_goes_with_the_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"vit.a": rng.normal(size=(3, 4)).astype(np.float32).T, "head.b": np.zeros(0, np.float32)}
    found = TensorFile.write(tmp_path, tensors)
    assert {*found} == {*tensors} == {name for name, _ in found.items()}
    assert len(found) == 2
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["vit.a"] is not found["vit.a"]
    with pytest.raises(KeyError):
        found["vit.c"]
    Checkpoints(tmp_path, {}).remove()
    assert list(tmp_path.iterdir()) == []
