"""Laws of a killed writer: at every gap the store holds whole shards only, and going on gives the undisturbed store."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
from sentifuse.cache import journal, shard, writer
from sentifuse.cache.featureset import open_feature_set

gap, directory = sys.argv[1], Path(sys.argv[2])
die = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
rows = [[row_of(f"{number}-{position}", position) for position in range(5)] for number in range(3)]
feature_set = open_feature_set(directory)
with writer.FeatureWriter(feature_set) as one:
    one.commit(one.stage(0, rows[0]))
    if gap == "while values are written":
        whole, calls = shard._write_field, []
        shard._write_field = lambda *args: whole(*args) if calls.append(1) or len(calls) < 3 else die()
    elif gap == "before the file is forced to the disk":
        os.fsync = die
    elif gap == "before the rename":
        writer.sha256_of = die
    elif gap == "after the rename":
        writer.fsync_directory = die
    staged = one.stage(1, rows[1])
    if gap == "before the journal line":
        die()
    elif gap == "within the journal line":
        line = journal.journal_bytes([staged])
        journal.journal_bytes = lambda records: line[: len(line) // 2]
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
