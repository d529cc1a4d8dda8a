"""The snippets of docs/reading_a_shard.md run, one after the other, and read what was written."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentifuse.cache.featureset import FeatureSet
from sentifuse.cache.spec import Row
from sentifuse.cache.writer import FeatureWriter

PAGE = Path(__file__).parents[2] / "docs" / "reading_a_shard.md"


def test_every_snippet_reads_what_was_written(
    feature_set: FeatureSet,
    make_rows: Callable[..., list[Row]],
    make_row: Callable[..., Row],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards = [make_rows(0, 7), make_rows(7, 5), [make_row("pair é3", 50, length=2)]]
    with FeatureWriter(feature_set) as writer:
        for number, rows in enumerate(shards):
            writer.commit(writer.stage(number, rows))
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == 3
    names: dict[str, object] = {"folder": str(feature_set.directory), "field": "grid", "ragged": "states"}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)

    expected = {row.id: row.values for rows in shards for row in rows if row.values is not None}
    vectors, states = names["vectors"], names["states"]
    assert isinstance(vectors, dict)
    assert isinstance(states, dict)
    assert set(vectors) == set(states) == set(expected)
    for row_id, values in expected.items():
        np.testing.assert_array_equal(vectors[row_id], values["grid"])
        np.testing.assert_array_equal(states[row_id], values["states"])
    first = [row.values for row in shards[0] if row.values is not None]
    np.testing.assert_array_equal(names["mapped_vectors"], np.stack([values["grid"] for values in first]))
    np.testing.assert_array_equal(names["mapped_states"], np.concatenate([values["states"] for values in first]))
    assert "tokens 12" in capsys.readouterr().out
