"""The report of a comparison: every table of its JSON, every verdict, what failed; refusal of what is torn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data import files
from sentifuse.fuse.comparison.compare import CompareRequest, compare
from sentifuse.fuse.comparison.grids import grids_of
from sentifuse.fuse.report.comparison_report import read_comparison, report_comparison, view_of
from sentifuse.fuse.run import RunDirectory
from sentifuse.fuse.train import TrainRequest, train

ReadPage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def document(world: Any) -> dict[str, Any]:
    """Two runs of each of two heads, compared."""
    quick = {"epochs": 1, "batch_size": 72}
    runs = [
        train(TrainRequest(artifacts=world.artifacts, dataset=world.name, head=head, seed=seed, overrides=quick)).path
        for head in ("text_only", "image_only")
        for seed in (0, 1)
    ]
    request = CompareRequest(artifacts=world.artifacts, dataset="", runs=tuple(runs), workers=1, device="cpu")
    found: dict[str, Any] = json.loads(json.dumps(compare(request)))
    assert {RunDirectory.open(run).name for run in runs} == {run["run"] for run in found["runs"]}
    cell = {"rate": 0.3, "n_runs": 2, "accuracy": 0.61, "sd": 0.02, "f1_weighted": 0.6}
    rows = {name: [cell | {"rate": 0.0}, cell] for name in found["rows"]}
    return found | {"missing": [{"missing": kind, "rates": [0.0, 0.3], "rows": rows} for kind in ("text", "random")]}


@pytest.fixture(scope="module")
def view(document: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of it."""
    return view_of(document)


def put(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    files.write_json(folder / "comparison.json", document)
    return folder


def test_every_table_cell_verdict_and_run_is_on_the_page(
    document: dict[str, Any], tmp_path: Path, read_page: ReadPage
) -> None:
    found = report_comparison(put(tmp_path / "c", document))
    assert found["html"] == str(tmp_path / "c" / "report.html")
    page = read_page(Path(found["html"]))
    page.refuse_what_others_cannot_read()
    for grid in grids_of(document):
        assert grid.title in page.text
        for row in (grid.headings, *grid.rows):
            assert all(cell in page.text for cell in row)
        assert all(note in page.text for note in grid.notes)
    assert all(found["verdict"] in page.text for found in document["differences"].values())
    assert all(run["run"] in page.text for run in document["runs"])
    assert found["size_bytes"] < 5_000_000


def test_each_table_lies_in_its_own_section(document: dict[str, Any], view: dict[str, Any]) -> None:
    assert view["main"].title.startswith("Measured on")
    assert [grid.title for grid in view["differences"]] == [f"Accuracy against {document['baseline']}, paired"]
    assert all(grid.title.startswith("Accuracy when") for grid in view["missing"])
    assert len(view["missing"]) == len(view["curves"]) == 2
    assert len(view["subsets"]) == len(document["subsets"]) > 0
    assert [row[0] for row in view["cost"].rows] == list(document["rows"])
    taken = [view["main"], *view["differences"], *view["subsets"], *view["missing"], *view["published"]]
    assert taken == grids_of(document)  # none is left over


def test_the_forest_plot_says_its_numbers(document: dict[str, Any], view: dict[str, Any]) -> None:
    alt = view["forest"].alt
    for name, row in document["rows"].items():
        assert f"{name}: {100 * row['accuracy']['value']:.1f}" in alt


def test_published_numbers_stand_with_what_differs(
    document: dict[str, Any], tmp_path: Path, read_page: ReadPage
) -> None:
    one = {
        "table": "t", "title": "Table 9", "source": "A. Author, A Title, 2023", "system": "Great <Net>", "ours": None,
        "accuracy": 0.7519, "f1": None, "differs": ["encoders: there; here test"],
    }  # fmt: skip
    found = report_comparison(put(tmp_path / "c", document | {"published": [one]}))
    text = read_page(Path(found["html"])).text
    for words in ("Great <Net>", "A. Author, A Title, 2023", "encoders: there; here test", "no ranking"):
        assert words in text


def test_what_failed_or_was_left_out_is_on_the_page(
    document: dict[str, Any], tmp_path: Path, read_page: ReadPage
) -> None:
    odd = document | {"failed": {"itin, seed 3": "loss is nan"}, "left_out": {"ctmwa": "needs <regions>"}}
    text = read_page(Path(report_comparison(put(tmp_path / "c", odd))["html"])).text
    assert "itin, seed 3: loss is nan" in text
    assert "ctmwa: needs <regions>" in text


def test_a_sweep_is_a_curve_with_its_source(document: dict[str, Any]) -> None:
    published = {"title": "Figure 5", "source": "s", "said": "falls after 5", "points": [(1, 0.7)]}
    points = [{"value": v, "mean": 0.6 + v / 10, "sd": None, "row": f"itin:{v}"} for v in (0, 1)]
    sweep = {"key": "region_count", "values": [0, 1], "curves": {"itin": points}, "published": published}
    view = view_of(document | {"sweep": sweep, "missing": []})
    assert "itin: 0 → 60.0, 1 → 70.0" in view["curves"][0].alt
    assert "Figure 5" in view["curves"][0].caption
    assert "falls after 5" in view["curves"][0].caption


def test_a_row_alone_has_no_verdict(document: dict[str, Any], tmp_path: Path, read_page: ReadPage) -> None:
    alone = document | {"differences": {}, "baseline": None, "missing": [], "subsets": [], "ablations": []}
    page = read_page(Path(report_comparison(put(tmp_path / "c", alone))["html"]))
    page.refuse_what_others_cannot_read()
    assert "Nothing was compared pair by pair." in page.text


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a comparison with comparison.json, found none"):
        report_comparison(tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"format": 1, "rows"', "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"format": 99}', "expected a comparison of format 1, found 99"),
        ('{"format": 1, "rows": {}}', "these are missing: created"),
    ],
)
def test_a_torn_comparison_is_refused_by_name(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "comparison.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=what) as error:
        read_comparison(tmp_path)
    assert "comparison.json" in str(error.value)
    assert "sentifuse compare" in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": {"a": {}}},
        {"rows": {"a": None}},
        {"seeds": None},
        {"runs": [{"row": "a"}]},
        {"differences": {"a": {"verdict": 3}}},
        {"missing": [{"missing": "text", "rates": [0.0], "rows": {"a": [{}]}}]},
        {"features": []},
    ],
)
def test_damage_deep_inside_is_refused_by_name_and_writes_nothing(
    document: dict[str, Any], tmp_path: Path, damage: dict[str, Any]
) -> None:
    folder = put(tmp_path / "c", document | damage)
    with pytest.raises(DataError, match=r"comparison\.json: .* damaged inside .* sentifuse compare"):
        report_comparison(folder)
    assert [path.name for path in folder.iterdir()] == ["comparison.json"]
