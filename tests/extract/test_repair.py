"""Laws of a repair through the encoders: the very bytes come back, and only batches of damaged rows go again."""

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import ResourceError
from sentifuse.cache.checkup.faults import ROWS
from sentifuse.cache.errors import FingerprintMismatch
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.interchange.exporting import export_features
from sentifuse.cache.interchange.importing import import_features
from sentifuse.cache.journal import read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.record import StagedShard
from sentifuse.data.prepare import prepare
from sentifuse.extract.errors import MissingModel, ModelsMissing
from sentifuse.extract.job import ExtractRequest, resolve
from sentifuse.extract.profile import load_profile
from sentifuse.extract.repair import SetRepair, find_expected, repair, verify_set
from sentifuse.extract.runner import run

COUNT = 30
SHARD_ROWS = 8


def request(artifacts: Path, **changes: Any) -> ExtractRequest:
    settings: dict[str, Any] = {
        "artifacts": artifacts,
        "dataset": "mvsa_single",
        "profile": load_profile("tiny"),
        "device": "cpu",
        "loader_count": 2,
    }
    return ExtractRequest(**{**settings, **changes})


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A small dataset, extracted; the folders of its feature sets and all their bytes."""

    artifacts: Path
    root: Path
    folders: dict[str, Path]
    whole: dict[Path, bytes]

    def shard(self, encoder: str, number: int = 0) -> tuple[Path, StagedShard]:
        folder = self.folders[encoder]
        shard = read_journal(folder / "journal.jsonl").shards[number]
        return folder / shard.file, shard

    def files(self) -> dict[Path, bytes]:
        return read_store(self.artifacts)

    def repair(self, encoder: str, **changes: Any) -> SetRepair:
        is_dry, precision = changes.pop("is_dry", False), changes.pop("precision", None)
        done = request(self.artifacts, **changes)
        return repair(done, self.folders[encoder], precision=precision, is_dry=is_dry)

    def flip(self, encoder: str, *fields: str, number: int = 0, rows: tuple[int, ...] = (0,)) -> None:
        """Turn a bit in the first value of some rows of fields."""
        path, shard = self.shard(encoder, number)
        content = bytearray(path.read_bytes())
        for name in fields:
            places = {place.name: place for place in shard.proof.datasets}
            ragged = places.get(f"fields/{name}/offsets")
            values = places[f"fields/{name}/values" if ragged else f"fields/{name}"]
            offsets = (
                np.frombuffer(content, "<i8", shard.ok + 1, ragged.offset_bytes) if ragged else np.arange(shard.ok + 1)
            )
            size = values.size_bytes // int(offsets[-1])
            hits = [values.offset_bytes + int(offsets[row]) * size for row in rows]
            del offsets
            for hit in hits:
                content[hit] ^= 1
        path.write_bytes(bytes(content))


def read_store(artifacts: Path) -> dict[Path, bytes]:
    paths = sorted((artifacts / "cache").rglob("*"))
    return {p: p.read_bytes() for p in paths if p.is_file() and "stats" not in p.parts and "lock" not in p.name}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_small_mvsa: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("made")
    root = write_small_mvsa(folder / "MVSA_Single", COUNT)
    prepare("mvsa_single", artifacts=folder / "artifacts", root=root)
    run(resolve(request(folder / "artifacts", batch_rows=4, shard_rows=SHARD_ROWS)))
    return folder


@pytest.fixture
def extracted(made: Path, tmp_path: Path) -> Extracted:
    """A copy of its own for each test; the images stay where they were prepared."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(made / "artifacts", artifacts)
    folders = {path.name.rpartition("-")[0]: path for path in (artifacts / "cache" / "mvsa_single").glob("*-*")}
    return Extracted(artifacts=artifacts, root=made / "MVSA_Single", folders=folders, whole=read_store(artifacts))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that goes through a network."""
    from sentifuse.extract.backbones.image import ImageBackbone
    from sentifuse.extract.backbones.text import TextStates

    batches: list[int] = []
    for kind in (ImageBackbone, TextStates):

        def counting(self: Any, batch: Any, plain: Any = kind.forward) -> Any:
            batches.append(len(batch))
            return plain(self, batch)

        monkeypatch.setattr(kind, "forward", counting)
    return batches


def test_a_whole_set_loads_no_model(extracted: Extracted, forwards: list[int]) -> None:
    for encoder in extracted.folders:
        result = extracted.repair(encoder)
        assert (result.after.faults, result.error, result.repaired.shards) == ((), None, ())
    assert forwards == []
    assert extracted.files() == extracted.whole


@pytest.mark.parametrize(("encoder", "field"), [("tokens", "states"), ("context", "vector"), ("regions", "features")])
def test_damaged_rows_come_back_with_their_batch_alone(
    extracted: Extracted, forwards: list[int], encoder: str, field: str
) -> None:
    extracted.flip(encoder, field, number=1, rows=(0, 5))
    batches = extracted.shard(encoder, 1)[1].proof.row_batch
    hit = {int(batches[0]), int(batches[5])}
    result = extracted.repair(encoder)
    assert len([f for f in result.repaired.before.faults if f.part == ROWS]) == 1
    assert (result.after.faults, result.error) == ((), None)
    assert extracted.files() == extracted.whole
    assert sorted(forwards) == sorted(int((batches == number).sum()) for number in hit)
    (shard,) = result.repaired.shards
    assert (shard.outcome, shard.kept, shard.recomputed, shard.batches) == ("restored", 6, 2, len(hit))
    assert result.to_json()["batches_recomputed"] == len(hit)


def test_files_and_columns_are_mended_without_a_model(extracted: Extracted, forwards: list[int]) -> None:
    folder = extracted.folders["tokens"]
    path, shard = extracted.shard("tokens")
    content = bytearray(path.read_bytes())
    place = shard.proof.datasets[0]
    content[place.offset_bytes : place.offset_bytes + place.size_bytes] = bytes(place.size_bytes)
    path.write_bytes(bytes(content))
    for name in ("recipe.json", "index.json"):
        (folder / name).write_bytes((folder / name).read_bytes()[:50])
    result = extracted.repair("tokens")
    assert (result.after.faults, result.error, forwards) == ((), None, [])
    assert extracted.files() == extracted.whole
    assert result.repaired.files == ("index.json", "recipe.json")


@pytest.mark.parametrize("is_readable", [True, False])
def test_with_everything_lost_all_comes_back_to_the_same_bytes(extracted: Extracted, is_readable: bool) -> None:
    folder = extracted.folders["tokens"]
    if is_readable:
        extracted.flip("tokens", "states")
    else:
        extracted.shard("tokens")[0].write_bytes(b"")
    for name in ("recipe.json", "index.json", "journal.jsonl"):
        (folder / name).write_bytes((folder / name).read_bytes()[:50])
    result = extracted.repair("tokens")
    assert (result.after.faults, result.error) == ((), None)
    found, whole = extracted.files(), dict(extracted.whole)
    if is_readable:  # the index had to say for a while that the shard is another
        assert found.pop(folder / "index.json") != whole.pop(folder / "index.json")
    assert found == whole
    if is_readable:  # seven rows prove themselves
        assert [(shard.outcome, shard.kept) for shard in result.repaired.shards] == [("restored", SHARD_ROWS - 1)]
    else:
        assert result.extracted is not None
        assert result.extracted.computed == SHARD_ROWS


def test_rows_that_came_back_from_an_export_are_made_again(extracted: Extracted, tmp_path: Path) -> None:
    """An export knows no batches; its rows are no less ours."""
    folder = extracted.folders["tokens"]
    export_features(FeatureReader(folder), tmp_path / "out", format_name="npz")
    expected = find_expected(extracted.artifacts, "mvsa_single", "tokens")
    assert expected is not None
    shutil.rmtree(folder)
    digests = {row_id: digest for row_id, (digest, _) in expected.items()}
    import_features(tmp_path / "out", format_name="npz", cache_dir=folder.parent, digests=digests)
    (shard,) = read_journal(folder / "journal.jsonl").shards
    assert set(shard.proof.row_batch.tolist()) == {-1}
    extracted.flip("tokens", "states", rows=(0, 5))
    result = extracted.repair("tokens")
    assert (result.after.faults, result.error) == ((), None)
    assert [(shard.kept, shard.recomputed, shard.gone) for shard in result.repaired.shards] == [(COUNT - 2, 2, ())]
    FeatureReader(folder).prove()


def test_a_shard_that_is_gone_is_extracted_again_to_the_same_bytes(extracted: Extracted, forwards: list[int]) -> None:
    extracted.shard("context", 2)[0].unlink()
    result = extracted.repair("context")
    assert [shard.outcome for shard in result.repaired.shards] == ["dropped"]
    assert result.extracted is not None
    assert (result.extracted.computed, sum(forwards)) == (SHARD_ROWS, SHARD_ROWS)
    assert result.after.faults == ()
    shards = {path: content for path, content in extracted.whole.items() if path.suffix == ".h5"}
    assert {path: content for path, content in extracted.files().items() if path.suffix == ".h5"} == shards


def test_a_row_whose_text_changed_since_is_extracted_anew_and_never_mixed(made: Path, extracted: Extracted) -> None:
    root = extracted.artifacts.parent / "MVSA_Single"
    shutil.copytree(extracted.root, root)
    (root / "data" / "1.txt").write_bytes(b"something else entirely\n")
    prepare("mvsa_single", artifacts=extracted.artifacts, root=root)
    extracted.flip("tokens", "states", rows=(0, 1))
    result = extracted.repair("tokens")
    (shard,) = result.repaired.shards
    assert (shard.outcome, shard.gone, shard.recomputed) == ("changed", ("1",), 1)
    assert result.extracted is not None
    assert result.extracted.computed == 1
    assert result.after.faults == ()
    reader = FeatureReader(extracted.folders["tokens"])
    reader.prove()
    assert len(reader) == COUNT


def test_an_image_that_is_gone_is_no_reason_to_keep_damage(extracted: Extracted) -> None:
    root = extracted.artifacts.parent / "MVSA_Single"
    shutil.copytree(extracted.root, root)
    prepare("mvsa_single", artifacts=extracted.artifacts, root=root)
    (root / "data" / "1.jpg").unlink()
    extracted.flip("context", "vector", rows=(0,))
    result = extracted.repair("context")
    assert [shard.gone for shard in result.repaired.shards] == [("1",)]
    assert result.extracted is not None
    assert FeatureReader(extracted.folders["context"]).status("1").startswith("failed: ")
    assert not [fault for fault in result.after.faults if fault.remedy == "repair"]


def test_without_the_folder_of_images_nothing_is_lost(extracted: Extracted, tmp_path: Path) -> None:
    root = tmp_path / "MVSA_Single"
    shutil.copytree(extracted.root, root)
    prepare("mvsa_single", artifacts=extracted.artifacts, root=root)
    root.rename(tmp_path / "elsewhere")
    extracted.flip("context", "vector")
    damaged = extracted.shard("context")[0].read_bytes()
    result = extracted.repair("context")
    assert "expected the folder of the images" in str(result.error)
    assert [shard.outcome for shard in result.repaired.shards] == ["left"]
    assert extracted.shard("context")[0].read_bytes() == damaged
    (tmp_path / "elsewhere").rename(root)
    assert extracted.repair("context").after.faults == ()


def test_without_the_models_all_else_is_mended_and_they_are_named(
    extracted: Extracted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object, **options: object) -> None:
        raise ModelsMissing("tiny", [("tokens", MissingModel("model.safetensors is nowhere"))], [])

    monkeypatch.setattr("sentifuse.extract.repair.find_models", missing)
    extracted.flip("tokens", "states")
    (extracted.folders["tokens"] / "index.json").write_bytes(b"")
    result = extracted.repair("tokens")
    assert isinstance(result.error, ResourceError)
    assert "model.safetensors is nowhere" in str(result.error)
    assert {fault.part for fault in result.after.faults} == {ROWS}
    monkeypatch.undo()
    assert extracted.repair("tokens").after.faults == ()
    assert extracted.files() == extracted.whole


def test_another_recipe_is_refused_with_what_differs_and_the_profile_to_give(extracted: Extracted) -> None:
    tiny = load_profile("tiny")
    entry = tiny.encoders["tokens"]
    settings = {**entry.settings, "max_length": 32}
    other = replace(tiny, name="mine", encoders={"tokens": replace(entry, settings=settings)})
    extracted.flip("tokens", "states")
    result = extracted.repair("tokens", profile=other)
    assert isinstance(result.error, FingerprintMismatch)
    assert "settings.max_length 64 there, 32 here" in str(result.error)
    assert "--profile tiny" in str(result.error)
    assert extracted.repair("tokens").after.faults == ()


def test_features_of_another_precision_are_made_again_in_theirs(extracted: Extracted, tmp_path: Path) -> None:
    run(resolve(request(extracted.artifacts, encoders=("tokens",), precision="fastest", batch_rows=4)))
    folders = (extracted.artifacts / "cache" / "mvsa_single").glob("tokens-*")
    (folder,) = [path for path in folders if path != extracted.folders["tokens"]]
    fastest = replace(extracted, folders={"tokens": folder}, whole=extracted.files())
    fastest.flip("tokens", "states")
    result = fastest.repair("tokens", precision="exact")
    assert "precision 'bfloat16' there, 'float32' here" in str(result.error)
    assert "--profile tiny --precision fastest" in str(result.error)
    assert fastest.repair("tokens").error is None
    assert fastest.files() == fastest.whole


def test_a_dry_run_changes_nothing(extracted: Extracted, forwards: list[int]) -> None:
    extracted.flip("tokens", "states", rows=(0, 5))
    before = extracted.files()
    result = extracted.repair("tokens", is_dry=True)
    assert [(shard.outcome, shard.lost) for shard in result.repaired.shards] == [("damaged", 2)]
    assert (extracted.files(), forwards) == (before, [])


def test_features_of_a_dataset_that_is_not_prepared_here_are_checked_as_well(extracted: Extracted) -> None:
    shutil.rmtree(extracted.artifacts / "datasets")
    assert verify_set(extracted.artifacts, extracted.folders["tokens"], deep=True).faults == ()
    extracted.flip("tokens", "states")
    result = extracted.repair("tokens")
    assert [fault.part for fault in result.after.faults] == [ROWS]
    assert "sentifuse data prepare" in str(result.error)


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["flip", "page"])
def test_any_damage_of_any_set_is_found_and_mended(
    extracted: Extracted,
    kind: str,
    forwards: list[int],
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    count, rng, batches = request.config.getoption(f"--{kind}s"), random.Random(11), 0
    sets = {path: encoder for encoder, folder in extracted.folders.items() for path in folder.rglob("*")}
    paths = [path for path in extracted.whole if path in sets]
    weights = [len(extracted.whole[path]) for path in paths]
    for _ in range(count):
        (path,) = rng.choices(paths, weights)
        content = spoiled(extracted.whole[path], kind, rng)
        path.write_bytes(content)
        forwards.clear()
        result = extracted.repair(sets[path])
        assert result.repaired.before.faults, path
        assert (result.after.faults, result.error) == ((), None)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(extracted.whole[path]).digest()
        assert len(forwards) == result.repaired.total("batches")
        batches += len(forwards)
    assert extracted.files() == extracted.whole
    record_property(f"{kind}s", f"{count} found and mended, {batches} batches recomputed")


def spoiled(content: bytes, kind: str, rng: random.Random) -> bytes:
    while True:
        at = rng.randrange(len(content))
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        rest = bytes(min(4096, len(content) - at)) + content[at + 4096 :] if rng.random() < 0.6 else b""
        if content[:at] + rest != content:
            return content[:at] + rest


def test_a_recipe_that_lost_its_details_gets_them_from_the_profile(extracted: Extracted) -> None:
    path = extracted.folders["tokens"] / "recipe.json"
    details = open_feature_set(path.parent).details
    path.unlink()
    extracted.repair("tokens")
    assert open_feature_set(path.parent).details == details
