"""Laws of an extraction through a slow detector: small shards, images one by one, the same bytes after any stop."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sentifuse import ResourceError
from sentifuse.cache.featureset import open_feature_set
from sentifuse.cache.journal import read_index, read_journal
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.shard import read_layout
from sentifuse.cache.writer import commit_parts
from sentifuse.data.prepare import prepare
from sentifuse.extract.backbones.regions_vg import VisualGenomeBackbone
from sentifuse.extract.detector.architecture import ARCHITECTURES, VISUAL_GENOME, Architecture
from sentifuse.extract.detector.golden.rule import synthetic_weights
from sentifuse.extract.encoders.regions_vg import VisualGenomeRegions
from sentifuse.extract.job import ExtractRequest, resolve
from sentifuse.extract.plan import SHARD_ROWS
from sentifuse.extract.profile import load_profile
from sentifuse.extract.repair import repair, verify_set
from sentifuse.extract.runner import EncoderSummary, run
from sentifuse.fuse.features.batches import BatchSource, FieldRequest

COUNT = 10
PROFILE = """
[encoders.regions]
model = {{ path = "{path}", architecture = "small_rcnn" }}
proposals = 12
count = 4
"""
# The real command with shards of two rows.
COMMAND = """
import sys
from sentifuse.extract.encoders.regions_detected import DetectedRegions
DetectedRegions.shard_rows = 2
from sentifuse import cli
cli.main(sys.argv[1:])
"""
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


class Project:
    """A prepared dataset of thin pictures, which are quick to look at, and a profile that looks at them."""

    def __init__(self, folder: Path, root: Path, weights: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.artifacts = folder / "artifacts"
        self.profile = folder / "small.toml"
        self.profile.write_text(PROFILE.format(path=weights), encoding="utf-8")
        prepare("mvsa_single", artifacts=self.artifacts, root=root)

    def request(self, **changes: Any) -> ExtractRequest:
        settings: dict[str, Any] = {
            "artifacts": self.artifacts,
            "dataset": "mvsa_single",
            "profile": load_profile(self.profile),
            "device": "cpu",
            "loader_count": 2,
            "shard_rows": 4,
        }
        return ExtractRequest(**{**settings, **changes})

    def extract(self, progress: Callable[[int], None] | None = None, **changes: Any) -> EncoderSummary:
        return run(resolve(self.request(**changes)), progress=progress).encoders["regions"]

    def digests(self) -> dict[str, str]:
        return digests(self.artifacts)


def digests(artifacts: Path) -> dict[str, str]:
    """SHA-256 of every file of the store that is not a statistic or a lock."""
    cache = artifacts / "cache"
    kept = [p for p in sorted(cache.rglob("*")) if p.is_file() and "stats" not in p.parts and "lock" not in p.name]
    return {str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def draw(root: Path, number: int, size: tuple[int, int]) -> None:
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(root / "data" / f"{number}.jpg", quality=95)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, write_small_mvsa: Callable[..., Path]) -> Path:
    made = write_small_mvsa(tmp_path_factory.mktemp("images") / "MVSA_Single", COUNT)
    for number in range(1, COUNT + 1):
        draw(made, number, (120, 6) if number % 3 else (100, 6))
    return made


@pytest.fixture(scope="module", autouse=True)
def known(sizes: Architecture) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "small_rcnn", sizes)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, root: Path, small_detector_file: Path) -> dict[str, str]:
    """What an undisturbed run stores."""
    project = Project(tmp_path_factory.mktemp("undisturbed"), root, small_detector_file)
    assert project.extract().statuses == {"ok": COUNT}
    return project.digests()


@pytest.fixture
def project(tmp_path: Path, root: Path, small_detector_file: Path) -> Project:
    return Project(tmp_path, root, small_detector_file)


def test_shards_have_the_encoders_own_size_unless_another_is_asked_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VisualGenomeRegions, "shard_rows", 3)
    assert len(resolve(project.request(shard_rows=0)).encoders["regions"].plan.shards) == 4
    assert len(resolve(project.request(shard_rows=5)).encoders["regions"].plan.shards) == 2
    directory = Path(project.extract(shard_rows=0).directory)
    assert [record.rows for record in read_index(open_feature_set(directory).index).shards] == [3, 3, 3, 1]
    assert open_feature_set(directory).details["shard_rows"] == 3


def test_other_encoders_keep_their_shards(project: Project) -> None:
    tiny = load_profile("tiny")
    job = resolve(project.request(profile=tiny, shard_rows=0))
    assert {job.request.rows_per_shard(one.encoder) for one in job.encoders.values()} == {SHARD_ROWS}


def test_on_a_cpu_every_image_is_a_batch_and_progress_counts_them_one_by_one(project: Project) -> None:
    seen: list[int] = []
    regions = open_feature_set(Path(project.extract(seen.append).directory))
    layouts = [read_layout(regions, record) for record in read_index(regions.index).shards]
    assert [layout.batch.tolist() for layout in layouts] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    assert [count for count in seen if count] == [1] * COUNT


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("rows", [5, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (1, 9))])
def test_an_interrupted_run_resumes_to_the_bytes_of_an_undisturbed_one(
    project: Project, undisturbed: dict[str, str], rows: int
) -> None:
    left = rows

    def progress(count: int) -> None:
        nonlocal left
        left -= count
        if left <= 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        project.extract(progress)
    resumed = project.extract()
    assert resumed.reused == rows // 4 * 4  # a shard that was whole is kept
    assert project.digests() == undisturbed


def test_parts_make_the_store_of_one_run(project: Project, undisturbed: dict[str, str]) -> None:
    for part in ((1, 2), (0, 2)):
        directory = Path(project.extract(part=part).directory)
    commit_parts(open_feature_set(directory))
    assert project.extract().computed == 0
    assert project.digests() == undisturbed


@pytest.mark.parametrize("options", [{"batch_rows": 3}, {"loader_count": 1}])
def test_on_a_cpu_neither_batch_nor_loaders_change_a_byte_of_a_shard(
    project: Project, undisturbed: dict[str, str], options: dict[str, int]
) -> None:
    project.extract(**options)
    shards = {name: digest for name, digest in project.digests().items() if name.endswith(".h5")}
    assert shards == {name: digest for name, digest in undisturbed.items() if name.endswith(".h5")}


def test_a_device_without_memory_stops_the_run_and_fails_no_row(
    project: Project, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = VisualGenomeBackbone.forward, [0]

    def starved(self: VisualGenomeBackbone, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] > 6:
            raise ResourceError("cuda:0: no memory for the regions of an image")
        return whole(self, batch)

    monkeypatch.setattr(VisualGenomeBackbone, "forward", starved)
    with pytest.raises(ResourceError, match="no memory"):
        project.extract()
    monkeypatch.undo()
    summary = project.extract()
    assert (summary.reused, summary.statuses) == (4, {"ok": COUNT})
    assert project.digests() == undisturbed


def test_damaged_rows_come_back_byte_for_byte_each_alone(
    project: Project, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(project.extract().directory)
    shard = read_journal(directory / "journal.jsonl").shards[1]
    places = {place.name: place for place in shard.proof.datasets}
    content = bytearray((directory / shard.file).read_bytes())
    content[places["fields/features/values"].offset_bytes] ^= 1
    (directory / shard.file).write_bytes(bytes(content))
    batches: list[int] = []
    whole = VisualGenomeBackbone.forward

    def counting(self: VisualGenomeBackbone, batch: Any) -> Any:
        batches.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(VisualGenomeBackbone, "forward", counting)
    done = repair(project.request(), directory)
    assert (done.after.faults, done.error, batches) == ((), None, [1])
    assert project.digests() == undisturbed


def test_an_image_too_narrow_is_quarantined_with_its_reason(
    tmp_path: Path, write_small_mvsa: Callable[..., Path], small_detector_file: Path
) -> None:
    root = write_small_mvsa(tmp_path / "MVSA_Single", 3)
    for number, size in ((1, (100, 6)), (2, (900, 2)), (3, (100, 6))):
        draw(root, number, size)
    summary = Project(tmp_path / "project", root, small_detector_file).extract()
    assert summary.statuses == {"ok": 2, "failed": 1}
    assert summary.quarantined["2"].startswith("failed: an image of 900x2 pixels is 1000x2 to the detector, too narrow")


def test_images_without_regions_are_rows_that_can_be_read_and_trained_on(
    tmp_path: Path, write_small_mvsa: Callable[..., Path], small_detector_file: Path, sizes: Architecture
) -> None:
    # All anchors lie so far to the right that a square image, 600 pixels wide to the network, has none inside.
    state = load_file(small_detector_file)
    state[ANCHORS] = torch.tensor([[800.0, 0.0, 816.0, 16.0]]).repeat(12, 1)
    save_file(state, tmp_path / "right.safetensors")
    root = write_small_mvsa(tmp_path / "MVSA_Single", 3)
    for number, size in ((1, (100, 6)), (2, (8, 8)), (3, (100, 6))):
        draw(root, number, size)
    project = Project(tmp_path / "project", root, tmp_path / "right.safetensors")
    summary = project.extract()
    assert summary.statuses == {"ok": 3}
    assert project.extract().computed == 0
    reader = FeatureReader(Path(summary.directory))
    assert verify_set(project.artifacts, Path(summary.directory), deep=True).faults == ()
    assert [len(reader.value(number, "features")) for number in "123"] == [4, 0, 4]
    assert reader.value("2", "features").shape == (0, sizes.feature_width)
    assert reader.value("2", "image_size").tolist() == [8, 8]
    request = FieldRequest(encoder="regions", field="features", limit=2)
    # The reader's way to a head: nothing is real there, and what is not real is zero.
    batch = BatchSource({"regions": reader}, (request,), ("1", "2", "3")).gather(range(3))
    assert batch.masks["regions.features"].tolist() == [[True, True], [False, False], [True, True]]
    assert not batch.values["regions.features"][1].any()


@pytest.mark.slow
def test_the_real_network_stopped_by_signals_resumes_to_the_same_bytes(
    tmp_path: Path, write_small_mvsa: Callable[..., Path]
) -> None:
    root = write_small_mvsa(tmp_path / "MVSA_Single", 6)
    for number in range(1, 7):
        draw(root, number, (100, 6))
    state = synthetic_weights(101, VISUAL_GENOME)
    save_file({name: torch.from_numpy(value) for name, value in state.items()}, tmp_path / "vg.safetensors")
    del state
    profile = PROFILE.format(path=tmp_path / "vg.safetensors").replace("small_rcnn", "faster_rcnn_resnet101_c4")
    (tmp_path / "vg.toml").write_text(profile, encoding="utf-8")

    def start(artifacts: Path) -> "subprocess.Popen[str]":
        command = ["extract", "--dataset", "mvsa_single", "--profile", str(tmp_path / "vg.toml"), "--device", "cpu"]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *command, "--artifacts", str(artifacts)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def stop(artifacts: Path, sign: signal.Signals) -> None:
        """Send the signal as soon as a shard is committed."""
        process = start(artifacts)
        assert process.stderr is not None
        while " committed, " not in (line := process.stderr.readline()):
            assert line
        process.send_signal(sign)
        _, err = process.communicate()
        assert process.returncode == 128 + sign, err
        assert "what was finished is kept" in err

    for name in ("undisturbed", "stopped"):
        prepare("mvsa_single", artifacts=tmp_path / name, root=root)
    for count, sign in enumerate((signal.SIGTERM, signal.SIGINT), start=1):
        stop(tmp_path / "stopped", sign)
        (directory,) = (tmp_path / "stopped" / "cache" / "mvsa_single").glob("regions-*")
        assert 2 * count <= len(FeatureReader(directory)) < 6
    for name in ("undisturbed", "stopped"):
        process = start(tmp_path / name)
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert digests(tmp_path / "stopped") == digests(tmp_path / "undisturbed")
