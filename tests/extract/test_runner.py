"""Laws of an extraction: every row accounted for, nothing computed twice, the same bytes whatever happened."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.cache.errors import DiskFull, Locked
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.journal import read_index
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.shard import read_layout
from sentifuse.cache.writer import FeatureWriter, commit_parts
from sentifuse.data.labels import read_labels
from sentifuse.data.prepare import prepare
from sentifuse.extract.job import ExtractRequest, resolve
from sentifuse.extract.profile import load_profile
from sentifuse.extract.runner import Summary, run

COUNT = 30
SHARD_ROWS = 8


def request(artifacts: Path, **changes: object) -> ExtractRequest:
    settings: dict[str, object] = {
        "artifacts": artifacts,
        "dataset": "mvsa_single",
        "profile": load_profile("tiny"),
        "device": "cpu",
        "loader_count": 2,
        "batch_rows": 4,
        "shard_rows": SHARD_ROWS,
    }
    return ExtractRequest(**{**settings, **changes})  # type: ignore[arg-type]


def extract(artifacts: Path, **changes: object) -> Summary:
    return run(resolve(request(artifacts, **changes)))


def store_bytes(artifacts: Path) -> dict[str, str]:
    """Digest of every file of the store that is not a statistic or a lock."""
    cache = artifacts / "cache"
    kept = [p for p in sorted(cache.rglob("*")) if p.is_file() and "stats" not in p.parts and "lock" not in p.name]
    return {str(p.relative_to(cache)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


@pytest.fixture
def root(tmp_path: Path, write_small_mvsa: Callable[..., Path]) -> Path:
    return write_small_mvsa(tmp_path / "MVSA_Single", COUNT)


@pytest.fixture
def artifacts(tmp_path: Path, root: Path) -> Path:
    folder = tmp_path / "artifacts"
    prepare("mvsa_single", artifacts=folder, root=root)
    return folder


def test_every_pair_is_a_row_of_every_feature_set(artifacts: Path) -> None:
    summary = extract(artifacts)
    assert list(summary.encoders) == ["tokens", "context", "regions"]
    for encoder in summary.encoders.values():
        assert (encoder.computed, encoder.reused, encoder.statuses) == (COUNT, 0, {"ok": COUNT})
        reader = FeatureReader(Path(encoder.directory))
        assert reader.ids == tuple(str(i) for i in range(1, COUNT + 1))
    assert summary.complete_pairs == COUNT
    stats = sorted((Path(summary.encoders["tokens"].directory) / "stats").iterdir())
    assert len(stats) == summary.encoders["tokens"].shards_written == 4


def test_rows_say_which_others_they_were_encoded_with(artifacts: Path, root: Path) -> None:
    (root / "data" / "2.jpg").write_bytes(b"no image")
    prepare("mvsa_single", artifacts=artifacts, root=root)
    context = open_feature_set(Path(extract(artifacts).encoders["context"].directory))
    first = read_layout(context, read_index(context.index).shards[0])
    assert first.batch.tolist() == [0, -1, 0, 0, 0, 1, 1, 1]  # four rows at once, eight in a shard


def test_a_store_does_not_depend_on_what_is_extracted_beside_it(artifacts: Path, tmp_path: Path, root: Path) -> None:
    extract(artifacts)
    alone = tmp_path / "alone"
    prepare("mvsa_single", artifacts=alone, root=root)
    for encoder in ("regions", "context", "tokens"):
        extract(alone, encoders=(encoder,))
    assert store_bytes(alone) == store_bytes(artifacts)


def test_the_same_command_again_computes_nothing_and_changes_no_byte(artifacts: Path) -> None:
    extract(artifacts)
    before = store_bytes(artifacts)
    again = extract(artifacts)
    assert again.computed == 0
    assert all(encoder.reused == COUNT for encoder in again.encoders.values())
    assert store_bytes(artifacts) == before


def test_added_pairs_are_computed_alone_wherever_their_ids_sort(
    artifacts: Path, root: Path, write_small_mvsa: Callable[..., Path]
) -> None:
    extract(artifacts)
    write_small_mvsa(root, 10, first=100)
    rows = (root / "labelResultAll.txt").read_bytes().split(b"\r\n")
    (root / "labelResultAll.txt").write_bytes(b"\r\n".join([rows[0], *rows[-11:-1], *rows[1:-11], b""]))
    prepare("mvsa_single", artifacts=artifacts, root=root)
    summary = extract(artifacts)
    assert {name: e.computed for name, e in summary.encoders.items()} == {"tokens": 10, "context": 10, "regions": 10}
    assert summary.pairs == COUNT + 10


def test_an_edited_text_is_one_row_of_the_text_encoder(artifacts: Path, root: Path) -> None:
    extract(artifacts)
    tokens = Path(extract(artifacts).encoders["tokens"].directory)
    before = {i: FeatureReader(tokens).value(i, "states").tobytes() for i in FeatureReader(tokens).ids}
    (root / "data" / "5.txt").write_bytes(b"something else entirely\n")
    prepare("mvsa_single", artifacts=artifacts, root=root)
    summary = extract(artifacts)
    assert {name: e.computed for name, e in summary.encoders.items()} == {"tokens": 1, "context": 0, "regions": 0}
    after = {i: FeatureReader(tokens).value(i, "states").tobytes() for i in FeatureReader(tokens).ids}
    assert [i for i in before if before[i] != after[i]] == ["5"]


def test_another_label_rule_or_split_recomputes_no_feature(artifacts: Path, root: Path) -> None:
    extract(artifacts)
    multi = read_labels(artifacts / "datasets" / "mvsa_single").label
    card = prepare("mvsa_single", artifacts=artifacts, root=root, rule="consistent", seed=3)
    assert card.rule == "consistent"
    assert read_labels(artifacts / "datasets" / "mvsa_single").label == multi  # here only conflicts have no label
    assert extract(artifacts).computed == 0


class Interrupted(Exception):
    pass


def interrupt_after(rows: int) -> Callable[[int], None]:
    seen = 0

    def progress(count: int) -> None:
        nonlocal seen
        seen += count
        if seen >= rows:
            raise Interrupted

    return progress


@pytest.mark.parametrize("rows", [20, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (1, 45))])
def test_an_interrupted_run_resumes_to_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, root: Path, artifacts: Path, rows: int
) -> None:
    other = tmp_path / "other"
    prepare("mvsa_single", artifacts=other, root=root)
    extract(other)
    with pytest.raises(Interrupted):
        run(resolve(request(artifacts)), progress=interrupt_after(rows))
    resumed = extract(artifacts)
    assert resumed.complete_pairs == COUNT
    assert store_bytes(artifacts) == store_bytes(other)
    if rows > 2 * SHARD_ROWS:
        assert resumed.computed < 3 * COUNT


def test_parts_make_the_store_of_one_run(tmp_path: Path, root: Path, artifacts: Path) -> None:
    other = tmp_path / "other"
    prepare("mvsa_single", artifacts=other, root=root)
    extract(other)
    for part in ((1, 2), (0, 2)):
        extract(artifacts, part=part)
    for folder in sorted((artifacts / "cache" / "mvsa_single").glob("*-*")):
        commit_parts(open_feature_set(folder))
    assert extract(artifacts).computed == 0
    assert store_bytes(artifacts) == store_bytes(other)


@pytest.mark.slow
def test_two_processes_make_the_store_of_one(tmp_path: Path, root: Path, artifacts: Path) -> None:
    other = tmp_path / "other"
    prepare("mvsa_single", artifacts=other, root=root)
    extract(other)
    extract(artifacts, device="cpu,cpu")
    assert store_bytes(artifacts) == store_bytes(other)


def test_encoders_of_one_model_share_a_forward_pass(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentifuse.extract.backbones.image import ImageBackbone

    batches: list[int] = []
    plain = ImageBackbone.forward

    def counting(self: ImageBackbone, batch: list[object]) -> object:
        batches.append(len(batch))
        return plain(self, batch)

    monkeypatch.setattr(ImageBackbone, "forward", counting)
    extract(artifacts, encoders=("context", "regions"))
    assert sum(batches) == COUNT


def test_bad_images_are_quarantined_by_name_and_the_rest_goes_on(artifacts: Path, root: Path) -> None:
    (root / "data" / "3.jpg").write_bytes(b"")
    (root / "data" / "4.jpg").write_bytes((root / "data" / "4.jpg").read_bytes()[:200])
    (root / "data" / "5.jpg").unlink()
    prepare("mvsa_single", artifacts=artifacts, root=root)
    summary = extract(artifacts)
    context = summary.encoders["context"]
    assert set(context.quarantined) == {"3", "4"}
    assert context.quarantined["3"] == "unreadable: empty file"
    assert context.statuses == {"ok": COUNT - 3, "missing": 1, "unreadable": 2}
    assert summary.encoders["tokens"].statuses == {"ok": COUNT}
    assert summary.complete_pairs == COUNT - 3


def test_more_failures_than_allowed_end_in_an_error_after_all_the_rest_is_stored(artifacts: Path, root: Path) -> None:
    (root / "data" / "3.jpg").write_bytes(b"")
    prepare("mvsa_single", artifacts=artifacts, root=root)
    with pytest.raises(DataError, match=r"1 of 30 pairs failed.*3 \(unreadable: empty file\).*--max-failures 1"):
        extract(artifacts, max_failures=0)
    assert extract(artifacts, max_failures=1).computed == 0


def test_an_image_changed_after_prepare_is_not_stored_under_the_old_digest(artifacts: Path, root: Path) -> None:
    (root / "data" / "2.jpg").write_bytes((root / "data" / "3.jpg").read_bytes())
    summary = extract(artifacts)
    assert "changed since the dataset was prepared" in summary.encoders["context"].quarantined["2"]


def test_odd_texts_are_encoded(artifacts: Path, root: Path) -> None:
    (root / "data" / "2.txt").write_bytes(b"")
    (root / "data" / "3.txt").write_bytes(b"before\x00after\n")
    (root / "data" / "4.txt").write_bytes(b"word " * 10_000)
    prepare("mvsa_single", artifacts=artifacts, root=root)
    tokens = extract(artifacts, encoders=("tokens",)).encoders["tokens"]
    assert tokens.statuses == {"ok": COUNT}
    reader = FeatureReader(Path(tokens.directory))
    assert len(reader.value("2", "states")) == 2  # [CLS] [SEP]
    assert len(reader.value("4", "states")) == 64


def test_without_any_image_every_image_row_is_missing_and_texts_are_encoded(artifacts: Path, root: Path) -> None:
    for image in (root / "data").glob("*.jpg"):
        image.unlink()
    prepare("mvsa_single", artifacts=artifacts, root=root)
    summary = extract(artifacts)
    assert summary.encoders["context"].statuses == {"missing": COUNT}
    assert summary.encoders["tokens"].statuses == {"ok": COUNT}


def test_a_dry_resolve_touches_nothing(artifacts: Path) -> None:
    before = sorted(artifacts.rglob("*"))
    job = resolve(request(artifacts))
    assert job.has_work
    assert sorted(artifacts.rglob("*")) == before


@pytest.mark.parametrize("part", [(2, 2), (0, 0)])
def test_a_part_that_cannot_be_is_refused(artifacts: Path, part: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected i/n"):
        resolve(request(artifacts, part=part))


def test_a_shard_that_was_deleted_is_made_again_and_nothing_else(artifacts: Path) -> None:
    context = Path(extract(artifacts).encoders["context"].directory)
    before = store_bytes(artifacts)
    sorted((context / "shards").iterdir())[1].unlink()
    assert resolve(request(artifacts)).encoders["context"].plan.new_rows == SHARD_ROWS
    again = extract(artifacts)
    assert {name: e.computed for name, e in again.encoders.items()} == {
        "tokens": 0,
        "context": SHARD_ROWS,
        "regions": 0,
    }
    shards = {name: digest for name, digest in before.items() if name.endswith(".h5")}
    assert shards == {name: digest for name, digest in store_bytes(artifacts).items() if name.endswith(".h5")}


def test_an_image_that_could_not_be_read_is_tried_again(artifacts: Path, root: Path) -> None:
    image, away = root / "data" / "2.jpg", root / "away.jpg"
    image.rename(away)
    context = extract(artifacts).encoders["context"]
    assert set(context.quarantined) == {"2"}
    assert context.quarantined["2"].startswith("failed: ")
    away.rename(image)
    again = extract(artifacts)
    assert again.encoders["context"].computed == 1
    assert again.complete_pairs == COUNT


def test_a_folder_of_images_that_is_gone_stops_before_any_row(artifacts: Path, root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(DataError, match=r"expected the folder of the images of mvsa_single.*--root DIR"):
        resolve(request(artifacts))
    assert not (artifacts / "cache").exists()
    assert resolve(request(artifacts, encoders=("tokens",))).has_work


def test_a_part_counts_what_is_there_and_not_what_others_will_do(artifacts: Path) -> None:
    first = extract(artifacts, part=(0, 2)).encoders["tokens"]
    assert (first.computed, first.reused, first.statuses) == (2 * SHARD_ROWS, 0, {"ok": 2 * SHARD_ROWS})
    again = extract(artifacts, part=(0, 2)).encoders["tokens"]
    assert (again.computed, again.reused) == (0, 2 * SHARD_ROWS)


def test_a_second_extraction_is_refused_before_it_loads_a_model(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = open_feature_set(Path(extract(artifacts).encoders["tokens"].directory))
    (tokens.directory / read_index(tokens.index).shards[0].file).unlink()
    job = resolve(request(artifacts))
    monkeypatch.setattr("sentifuse.extract.runner.build_encoders", lambda *arguments: pytest.fail("models were loaded"))
    with FeatureWriter(tokens), pytest.raises(Locked, match="another writer is at work"):
        run(job)


def test_no_room_for_the_statistics_is_a_full_disk(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.mkdir

    def full(self: Path, *args: object, **keywords: object) -> None:
        if self.name == "stats":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(self, *args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFull, match="Everything committed so far is kept"):
        extract(artifacts)
    monkeypatch.undo()
    assert extract(artifacts).complete_pairs == COUNT
