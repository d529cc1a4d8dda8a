"""Laws of a killed writer: at every gap the store holds whole shards only, and going on gives the undisturbed store.

The gaps of a commit stand here one by one, with what must count after each. `helpers/kills.py` goes through all the
others (opening, putting in order, closing, parts, repair, compaction) and through random moments.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache.errors import CorruptShard
from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

HERE = Path(__file__).parent
MakeRows = Callable[..., list[Row]]

# The killed process writes shard 0, then dies at a gap while it makes shard 1.
SCRIPT = """
import os, signal, sys
from pathlib import Path

from conftest import row_of
from sentifuse.cache import record, shard_file, staging, writer
from sentifuse.cache.featureset import open_feature_set

gap, directory = sys.argv[1], Path(sys.argv[2])
die = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
rows = [[row_of(f"{number}-{position}", position) for position in range(5)] for number in range(3)]
feature_set = open_feature_set(directory)
with writer.FeatureWriter(feature_set) as one:
    one.commit(one.stage(0, rows[0]))
    if gap == "while values are written":
        whole, calls = shard_file._write_field, []
        shard_file._write_field = lambda *args: whole(*args) if calls.append(1) or len(calls) < 3 else die()
    elif gap == "before the file is forced to the disk":
        os.fsync = die
    elif gap == "before the rename":
        staging.sha256_of = die
    elif gap == "after the rename":
        staging.fsync_directory = die
    staged = one.stage(1, rows[1])
    if gap == "before the journal line":
        die()
    elif gap == "within the journal line":
        line = staged.to_line()
        record.StagedShard.to_line = lambda shard: line[: len(line) // 2]
        os.fsync = die
    elif gap == "before the line is forced to the disk":
        os.fsync = die
    elif gap == "before the index":
        writer.write_index = die
    elif gap == "before the index is renamed":
        Path.replace = die
    one.commit(staged)
    if gap == "after the index":
        die()
sys.exit("was not killed")
"""

GAPS = {  # gap -> shards that count afterwards
    "while values are written": 1,
    "before the file is forced to the disk": 1,
    "before the rename": 1,
    "after the rename": 1,
    "before the journal line": 1,
    "within the journal line": 1,
    "before the line is forced to the disk": 2,  # the kernel has it; only a power cut could lose it
    "before the index": 2,
    "before the index is renamed": 2,
    "after the index": 2,
}


@pytest.mark.parametrize("gap", GAPS)
def test_killed_in_a_gap(
    feature_set: FeatureSet, snapshot: Callable[[Path], dict[str, bytes]], make_row: MakeRows, tmp_path: Path, gap: str
) -> None:
    rows = [[make_row(f"{number}-{position}", position) for position in range(5)] for number in range(3)]
    script = tmp_path / "killed.py"
    script.write_text(SCRIPT, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(script), gap, str(feature_set.directory)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == -9, run.stderr

    reader = FeatureReader(feature_set)  # of the index as the killed writer left it
    assert len(reader) in (5, 10)
    for row_id in reader.ids:
        reader.check(row_id)

    with FeatureWriter(feature_set) as writer:
        assert writer.shard_numbers == set(range(GAPS[gap]))
        assert list(feature_set.temporary.iterdir()) == []
        assert len(list(feature_set.shards.iterdir())) == GAPS[gap]
        for number in range(3):
            if number not in writer.shard_numbers:
                writer.commit(writer.stage(number, rows[number]))

    other = create_feature_set(
        tmp_path / "other",
        encoder=feature_set.encoder,
        recipe=feature_set.recipe,
        fields=feature_set.fields,
        details=feature_set.details,
    )
    with FeatureWriter(other) as writer:
        for number in range(3):
            writer.commit(writer.stage(number, rows[number]))
    assert snapshot(feature_set.directory) == snapshot(other.directory)


def test_killed_while_a_damaged_shard_is_dropped(
    feature_set: FeatureSet, make_rows: MakeRows, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    with FeatureWriter(feature_set) as writer:
        for number in range(2):
            writer.commit(writer.stage(number, make_rows(10 * number, 10)))
    path = feature_set.directory / writer.shards[1].file
    before = snapshot(feature_set.directory)
    path.write_bytes(bytes(path.stat().st_size))
    index = feature_set.index.read_bytes()
    with FeatureWriter(feature_set, accept_damage=True) as writer:
        writer.drop([1])
    feature_set.index.write_bytes(index)  # as it is after the journal was replaced and before the index was
    path.write_bytes(bytes(len(before[f"shards/{path.name}"])))
    with pytest.raises(CorruptShard, match="sentifuse cache repair"):
        FeatureWriter(feature_set)
    with FeatureWriter(feature_set, accept_damage=True) as writer:
        assert writer.shard_numbers == {0}
        assert not path.exists()
        writer.commit(writer.stage(1, make_rows(10, 10)))
    after = snapshot(feature_set.directory)
    assert [name for name in before if before[name] != after[name]] == ["index.json"]  # its generation


def run_kills(kind: str, folder: Path, count: int) -> dict[str, int]:
    """Kills by the step they came at; `helpers/kills.py` fails when a store is not what it must be."""
    run = subprocess.run(
        [sys.executable, str(HERE / "helpers" / "kills.py"), kind, str(folder), str(count)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["kills"] == sum(found["by_step"].values())
    return dict(found["by_step"])


STEPS = (
    "a shard file is forced to the disk, half of it there",
    "a shard gets its name",
    "the folder shards is forced to the disk",
    "the journal is forced to the disk, half of it there",
    "the index under another name is forced to the disk, half of it there",
    "the index gets its name",
    "the journal gets its name",
    "the journal of a part is forced to the disk, half of it there",
    "the journal of a part is removed",
    "a shard is removed",
    "the note of an owner is removed",
)


@pytest.mark.stress
def test_killed_before_each_step_that_changes_the_disk(
    tmp_path: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    most = 2 if pytestconfig.getoption("kills") < 200 else 24
    by_step = run_kills("gaps", tmp_path, most)
    assert set(STEPS) <= set(by_step)
    record_property("kills", by_step)


@pytest.mark.stress
def test_killed_at_random_moments(
    tmp_path: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    count = pytestconfig.getoption("kills")
    by_step = run_kills("moments", tmp_path, count)
    assert sum(by_step.values()) == count
    record_property("kills", by_step)
