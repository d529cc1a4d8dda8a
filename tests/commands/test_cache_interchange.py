"""`cache import` and `cache export` as a person types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from sentifuse import cli
from sentifuse.cache.current import read_current
from sentifuse.cache.reader import FeatureReader
from sentifuse.commands import cache_interchange
from sentifuse.data.manifest import read_manifest

Run = Callable[..., Any]


@pytest.fixture
def project(project: Path, tmp_path: Path) -> Path:
    """The extracted project, copied: these tests add feature sets to it."""
    folder = tmp_path / "artifacts"
    shutil.copytree(project, folder)
    return folder


@pytest.fixture
def run(project: Path, type_command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Types a command of `cache` for the project."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    group = typer.Typer()
    group.command("import", epilog=cache_interchange.IMPORT_EXAMPLE)(cache_interchange.import_features)
    group.command("export", epilog=cache_interchange.EXPORT_EXAMPLE)(cache_interchange.export_features)
    app.add_typer(group, name="cache")
    monkeypatch.setattr(cli, "app", app)
    return lambda *words: type_command("cache", *words, "--artifacts", project)


def vectors(project: Path, folder: Path) -> tuple[Path, Path, np.ndarray]:
    """An .npy with a vector for every pair but the last, and one for nobody; and the ids, in another order."""
    ids = [*read_manifest(project / "datasets" / "mvsa_single").ids[-2::-1], "nobody"]
    array = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    np.save(folder / "vectors.npy", array)
    (folder / "ids.txt").write_text("\n".join(ids), encoding="utf-8")
    return folder / "vectors.npy", folder / "ids.txt", array


def test_vectors_are_imported_and_in_use(run: Run, project: Path, tmp_path: Path) -> None:
    path, ids, array = vectors(project, tmp_path)
    typed = run("import", path, "--format", "npy", "--ids", ids, "--encoder", "context")
    assert typed.code == 0
    assert "90 rows written (1 failed, 89 ok), 0 were there" in typed.out
    assert "fields: vector float32 4" in typed.out
    assert "1 rows of the files whose id the dataset does not have, left out: nobody" in typed.out
    manifest = read_manifest(project / "datasets" / "mvsa_single")
    assert f"1 pairs of the dataset that the files do not have: {manifest.ids[-1]}" in typed.out
    current = read_current(project / "cache" / "mvsa_single")
    assert current.profile == "tiny"
    reader = FeatureReader(current.directory("context"))
    assert reader.ids == manifest.ids
    for row_id, vector in zip(manifest.ids[-2::-1], array, strict=False):
        np.testing.assert_array_equal(reader.value(row_id, "vector"), vector)
    for pair in manifest.pairs:
        assert reader.digest(pair.id) == pair.image_digest


@pytest.mark.parametrize("format_name", ["npz", "parquet", "safetensors", "webdataset"])
def test_an_export_comes_back_as_what_was_extracted(format_name: str, run: Run, project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    typed = run("export", out, "--format", format_name, "--encoder", "regions", "--dataset", "mvsa_single", "--json")
    assert typed.code == 0
    assert typed.document["rows"] == 90
    assert typed.document["folder"] == str(out)
    typed = run("import", out, "--format", format_name, "--json")
    document = typed.document
    assert (document["written"], document["stored"], document["outdated"]) == (0, 90, [])
    current = read_current(project / "cache" / "mvsa_single")
    assert document["feature_set"] == str(current.directory("regions"))
    assert json.loads((out / "export.json").read_text(encoding="utf-8"))["fingerprint"] == document["fingerprint"]


def test_text_features_have_the_digest_of_the_text(run: Run, project: Path, tmp_path: Path) -> None:
    path, ids, _ = vectors(project, tmp_path)
    manifest = read_manifest(project / "datasets" / "mvsa_single")
    words = ["import", path, "--format", "npy", "--ids", ids, "--field", "states", "--json"]
    for more in (["--encoder", "tokens"], ["--encoder", "mine", "--modality", "text"]):
        reader = FeatureReader(Path(run(*words, *more).document["feature_set"]))
        assert [reader.digest(pair.id) for pair in manifest.pairs] == [pair.text_digest for pair in manifest.pairs]
        assert [field.name for field in reader.fields] == ["states"]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--encoder", "mine"], 2, "--modality"),
        (["--encoder", "context", "--modality", "sound"], 2, "unknown modality 'sound'"),
        ([], 2, "--encoder"),
        (["--encoder", "context", "--field", "a="], 2, "expected NAME or NAME=ARRAY"),
        (["--encoder", "context", "--dtype", "int8"], 2, "unknown dtype"),
        (["--encoder", "context", "--id-prefix", "x"], 4, "none of its 90 ids"),
        (["--encoder", "context", "--lengths", "x"], 2, "--lengths: of no use for npy"),
    ],
    ids=range(7),
)
def test_a_mistake_is_told_in_a_line(
    more: list[str], code: int, message: str, run: Run, project: Path, tmp_path: Path
) -> None:
    path, ids, _ = vectors(project, tmp_path)
    before = sorted(path.name for path in (project / "cache" / "mvsa_single").iterdir())
    typed = run("import", path, "--format", "npy", "--ids", ids, *more)
    assert typed.code == code
    assert message in typed.err
    assert sorted(path.name for path in (project / "cache" / "mvsa_single").iterdir()) == before


def test_an_export_is_replaced_only_when_forced(run: Run, tmp_path: Path) -> None:
    words = ["export", tmp_path / "out", "--format", "parquet", "--encoder", "context", "--field", "vector"]
    assert run(*words).code == 0
    typed = run(*words)
    assert typed.code == 2
    assert "--force" in typed.err
    assert run(*words, "--force").code == 0
    typed = run("export", tmp_path / "none", "--format", "parquet", "--encoder", "clip")
    assert typed.code == 4
    assert "no 'clip' features" in typed.err
