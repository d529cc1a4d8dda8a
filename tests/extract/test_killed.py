"""Laws of an extraction that is stopped: by a kill, by SIGTERM, by a full disk. The same command again completes it.

What comes out is byte for byte what an undisturbed run writes.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sentifuse.cache.featureset import list_feature_sets
from sentifuse.cache.reader import FeatureReader

pytestmark = pytest.mark.stress

PAIRS, SHARDS = 150, 5  # of each of the three encoders
# The real command, with shards small enough for many commits in a second of work; and with a quota on the size of a
# file from when writing begins (the tiny models are made in files, too).
COMMAND = """
import resource, sys
from sentifuse.cache.writer import FeatureWriter
from sentifuse.extract import plan
plan.SHARD_ROWS = 30
def enter(writer, whole=FeatureWriter.__enter__):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]) or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return whole(writer)
FeatureWriter.__enter__ = enter
from sentifuse import cli
cli.main(sys.argv[2:])
"""


class Project:
    """A prepared dataset, and the store that an undisturbed extraction makes of it."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts
        self.cache = artifacts / "cache"
        self.expected: dict[str, bytes] = {}

    def start(self, *words: str, quota_bytes: int = 0) -> "subprocess.Popen[str]":
        command = ["extract", "--dataset", "mvsa_single", "--profile", "tiny", "--device", "cpu", "--workers", "1"]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(quota_bytes), *command, "--artifacts", str(self.artifacts), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def extract(self, *words: str, quota_bytes: int = 0) -> tuple[int, str, str]:
        run = self.start(*words, quota_bytes=quota_bytes)
        out, err = run.communicate()
        return run.returncode, out, err

    def stop(self, sign: signal.Signals, commits: int, *words: str) -> tuple[int, str, str]:
        """Send a signal as soon as so many shards were committed."""
        run = self.start(*words)
        assert run.stderr is not None
        seen: list[str] = []
        while commits and (line := run.stderr.readline()):
            seen.append(line)
            commits -= " committed, " in line
        run.send_signal(sign)
        out, err = run.communicate()
        return run.returncode, out, "".join(seen) + err

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.cache).as_posix(): path.read_bytes()
            for path in sorted(self.cache.rglob("*"))
            if path.is_file() and not path.name.startswith("lock") and path.parent.name != "stats"
        }

    def committed(self) -> int:
        """Shards a reader finds right now, every row of them checked."""
        count = 0
        for feature_set in list_feature_sets(self.cache / "mvsa_single"):
            if feature_set.index.exists():
                reader = FeatureReader(feature_set)
                reader.prove()
                count += len(reader.shards)
        return count

    def complete(self) -> None:
        """Run the same command again and compare."""
        code, _, err = self.extract()
        assert code == 0, err
        assert self.files() == self.expected
        assert self.committed() == 3 * SHARDS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, write_small_mvsa: Callable[..., Path]) -> Project:
    folder = tmp_path_factory.mktemp("project")
    root = write_small_mvsa(folder / "MVSA_Single", PAIRS)
    project = Project(folder / "artifacts")
    code, _, err = project.extract("--root", str(root))
    assert code == 0, err
    project.expected = project.files()
    assert project.committed() == 3 * SHARDS
    return project


@pytest.fixture
def project(undisturbed: Project) -> Project:
    shutil.rmtree(undisturbed.cache)
    return undisturbed


def test_killed_again_and_again(
    project: Project, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(0)
    kept = []
    for _ in range(max(2, pytestconfig.getoption("kills") // 40)):
        shutil.rmtree(project.cache, ignore_errors=True)
        for commits in (rng.randrange(3), rng.randrange(SHARDS)):
            code, _, err = project.stop(signal.SIGKILL, commits)
            assert code == -signal.SIGKILL, err
            kept.append(project.committed())
        project.complete()
    record_property("shards kept by each kill", kept)


def test_sigterm_ends_as_ctrl_c_does_and_says_how_to_go_on(project: Project) -> None:
    code, out, err = project.stop(signal.SIGTERM, 2, "--json")
    assert code == 143
    assert "Traceback" not in err
    assert "terminated; what was finished is kept, and the same command again goes on from there" in err
    assert json.loads(out)["error"] == {
        "type": "Terminated",
        "message": err.splitlines()[-1].removeprefix("error: "),
        "exit_code": 143,
    }
    assert 2 <= project.committed() < 3 * SHARDS
    project.complete()


def test_ctrl_c_keeps_what_was_committed(project: Project) -> None:
    code, _, err = project.stop(signal.SIGINT, 2)
    assert code == 130
    assert "Traceback" not in err
    assert "interrupted; what was finished is kept" in err.splitlines()[-1]
    assert 2 <= project.committed() < 3 * SHARDS
    project.complete()


def refused(project: Project, code: int, err: str) -> None:
    """The error of a full disk, and a store that is whole as far as it goes."""
    assert code == 4, err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    line = err.splitlines()[-1]
    assert line.startswith(f"error: {project.cache}")
    assert "no room on the disk" in line
    assert "MB were needed" in line
    assert "Make room and run the same command again" in line
    assert 0 < project.committed() < 3 * SHARDS
    assert not list(project.cache.glob("*/*/.tmp/*"))


def test_a_quota_on_files_is_a_full_disk(project: Project) -> None:
    largest = max(len(content) for content in project.expected.values())
    code, _, err = project.extract(quota_bytes=largest - 1)
    refused(project, code, err)
    project.complete()


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Callable[[], None]]:
    """A file system of that size at the folder; yields a function that makes it large."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    folder.mkdir(parents=True)
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield lambda: subprocess.run([mount, "-o", "remount,size=64m", str(folder)], check=True) and None
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)


def test_a_small_disk_that_runs_full(project: Project) -> None:
    whole = sum(len(content) for content in project.expected.values())
    with small_disk(project.cache, 2 * whole // 3) as make_room:
        code, _, err = project.extract()
        refused(project, code, err)
        make_room()
        project.complete()
    project.cache.rmdir()
    project.cache.mkdir()
