"""The snippets of docs/interchange.md run on exports and find what was exported; its commands name what there is."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from sentifuse.cache.featureset import FeatureSet, create_feature_set
from sentifuse.cache.interchange import EXPORTS, IMPORTS
from sentifuse.cache.interchange.exporting import export_features
from sentifuse.cache.reader import FeatureReader
from sentifuse.cache.spec import Field, Row
from sentifuse.cache.writer import FeatureWriter

PAGE = Path(__file__).parents[3] / "docs" / "interchange.md"
FIELDS = (
    Field(name="vector", dtype="float16", shape=(3,)),
    Field(name="states", dtype="float32", shape=(5,), is_ragged=True),
)


def filled(cache_dir: Path) -> FeatureSet:
    rng = np.random.default_rng(0)
    feature_set = create_feature_set(cache_dir, encoder="tokens", recipe={"x": 1}, fields=FIELDS)
    rows = [Row(id="gone", digest="", status="missing")]
    for number in range(5):
        values = {"vector": rng.normal(size=3).astype(np.float16), "states": np.ones((number, 5), np.float32) * number}
        rows.append(Row(id=f"é{number}", digest="ab" * 32, status="ok", values=values))
    with FeatureWriter(feature_set) as writer:
        writer.commit(writer.stage(0, rows))
    return feature_set


def test_every_snippet_reads_what_was_exported(cache_dir: Path, tmp_path: Path) -> None:
    reader = FeatureReader(filled(cache_dir))
    folders = {name: str(tmp_path / name) for name in EXPORTS}
    for name, folder in folders.items():
        export_features(reader, Path(folder), format_name=name)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == len(EXPORTS)
    names: dict[str, Any] = {"folder": folders, "field": "vector", "ragged": "states"}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    ids = [row_id for row_id in reader.ids if reader.has_value(row_id)]
    for variable, field in (("vectors", "vector"), ("states", "states"), ("arrays", "states"), ("tensors", "states")):
        assert list(names[variable]) == ids
        for row_id in ids:
            np.testing.assert_array_equal(names[variable][row_id], reader.value(row_id, field))


def test_the_commands_on_the_page_name_formats_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = {word: set(re.findall(rf"cache {word} \S+ --format (\w+)", text)) for word in ("import", "export")}
    assert named["import"] == {"npz", "tsv", "npy", "pickle"}
    assert named["import"] <= set(IMPORTS)
    assert named["export"] <= set(EXPORTS)
    assert all(f"`{name}`" in text for name in {*IMPORTS, *EXPORTS})
