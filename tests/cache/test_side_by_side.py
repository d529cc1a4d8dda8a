"""Laws of readers beside a writer: no error, no torn read, generations that only grow."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.cache import reader as reader_module
from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

HERE = Path(__file__).parent


@pytest.mark.stress
def test_sixteen_readers_beside_a_writer(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    run = subprocess.run(
        [sys.executable, str(HERE / "helpers" / "readers.py"), str(tmp_path), "120"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    found = json.loads(run.stdout)
    assert found["opened"] >= 2 * 16
    assert max(found["generations seen by each"]) > 2
    record_property("readers", found)


def test_a_set_that_is_compacted_while_it_is_opened_is_opened_as_it_is_then(
    feature_set: FeatureSet, make_rows: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureWriter(feature_set) as writer:
        for number in range(2):
            writer.commit(writer.stage(number, make_rows(10 * number, 10)))
    whole = reader_module.read_layout

    def compact_first(*args: object) -> object:
        monkeypatch.setattr(reader_module, "read_layout", whole)
        with FeatureWriter(feature_set) as writer:
            writer.rewrite([writer.stage(0, make_rows(0, 20))])
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(reader_module, "read_layout", compact_first)
    reader = FeatureReader(feature_set)
    reader.prove()
    assert (len(reader), len(reader.shards), reader.generation) == (20, 1, 3)
