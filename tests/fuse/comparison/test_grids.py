"""The same numbers in every format; what was published never without its mark; LaTeX that can be set."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sentifuse.fuse.comparison.grids import grids_of, heading_of
from sentifuse.fuse.comparison.published import published_rows
from sentifuse.fuse.comparison.table_csv import to_csv
from sentifuse.fuse.tables import FIT, to_latex, to_markdown

PAPER = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{tables}
\end{document}
"""
HERE = {"profile": "offline", "protocol": "random", "rule": "multisentinet", "n_pairs": 4000}


@pytest.fixture(scope="module")
def document(compared: Any) -> dict[str, Any]:
    """As if the small dataset had published numbers."""
    return compared.document | {"published": published_rows("mvsa_single", HERE)}


def test_markdown_tables_have_equal_columns(document: dict[str, Any]) -> None:
    text = to_markdown(heading_of(document), grids_of(document), ["table.png"])
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        width = 0 if not line.startswith("|") else width or cells
        assert not line.startswith("|") or cells == width
    assert "![table.png](table.png)" in text
    assert "text\\_only" in text


def test_published_numbers_stand_in_a_table_of_their_own_and_are_marked(document: dict[str, Any]) -> None:
    measured, *others, published = grids_of(document)
    assert not any("†" in cell for grid in (measured, *others) for row in grid.rows for cell in row)
    itin = next(row for row in published.rows if row[0] == "ITIN")
    assert itin[1:3] == ("75.19†", "74.97†")
    assert itin[-1].count(",") >= 2  # letters of what differs
    assert any(note.startswith("(a) encoders: ") for note in published.notes)
    assert any("TMM" in note or "Transactions on Multimedia" in note for note in published.notes)


def test_latex_has_no_sign_that_it_cannot_set(document: dict[str, Any]) -> None:
    text = to_latex(heading_of(document), grids_of(document))
    assert text.isascii()
    assert "?" not in text
    assert text.count("\\begin{tabular}") == text.count("\\bottomrule") == len(grids_of(document))
    for line in text.splitlines():
        if not line.startswith("%") and line != FIT:
            assert not re.search(r"(?<!\\)[#%_^~]", line), line
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def test_counts_that_differ_from_row_to_row_are_said_by_row(document: dict[str, Any]) -> None:
    rows = document["rows"] | {"ccr_like": document["rows"]["ccr_like"] | {"unit": "7 pairs"}}
    found = document["differences"] | {"ccr_like": document["differences"]["ccr_like"] | {"n": 5, "units": 4}}
    block = document["subsets"][0]
    fewer = {name: subset | {"n": 1} if subset["n"] else subset for name, subset in block["rows"]["ccr_like"].items()}
    subsets = [block | {"rows": block["rows"] | {"ccr_like": fewer}}, *document["subsets"][1:]]
    changed = document | {"rows": rows, "differences": found, "subsets": subsets}
    main, differences, first, *_ = grids_of(changed)
    usual = document["rows"]["text_only"]["unit"]
    assert f"{usual} (ccr_like: 7 pairs)" in main.notes[0]
    other = document["differences"]["image_only"]
    assert (
        f"gave: {other['n']:,}, drawn as {other['units']} pairs (ccr_like: 5, drawn as 4 pairs)"
        in (differences.notes[0])
    )
    assert f"agree (n = {block['rows']['text_only']['agree']['n']} (ccr_like: 1))" in first.headings


def test_pairs_that_several_seeds_test_are_pairs_and_not_groups(document: dict[str, Any]) -> None:
    assert all(found["n"] > found["units"] for found in document["differences"].values())  # some are tested twice
    (note, _) = grids_of(document)[1].notes
    assert "group" not in note


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("random", "other trainings on other splits"),
        ("grouped-folds", "other trainings on other splits"),
        ("fair", "other trainings with these very folds"),
        ("clmlf", "other trainings with this one test part"),
        ("given", "other trainings with this one test part"),
    ],
)
def test_runs_tell_of_other_splits_only_where_a_protocol_has_others(
    document: dict[str, Any], protocol: str, said: str
) -> None:
    assert f"which tells of {said}, too." in grids_of(document | {"protocol": protocol})[1].notes[1]


def test_a_gap_without_interval_is_printed_with_the_reason(document: dict[str, Any]) -> None:
    gap = {"difference": 0.125, "low": None, "high": None, "groups": 9, "reason": "all answers inside are of one group"}
    block = next(block for block in document["subsets"] if block["family"] == "duplicates")
    changed = document | {"subsets": [block | {"gap": block["gap"] | {"text_only": gap}}]}
    grid = grids_of(changed)[2]
    assert grid.rows[0][-1] == "+12.5 –"
    assert "text_only: no interval of the difference: all answers inside are of one group." in grid.notes


@pytest.mark.slow
def test_latex_sets_the_tables_no_wider_than_the_page(document: dict[str, Any], tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex here")
    (tmp_path / "tables.tex").write_text(to_latex(heading_of(document), grids_of(document)), encoding="ascii")
    (tmp_path / "paper.tex").write_text(PAPER, encoding="ascii")
    words = [program, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_the_csv_has_the_numbers_themselves(document: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(document))))
    kinds = {row["kind"] for row in rows}
    assert kinds == {"measured", "difference", "subset", "published"}
    accuracy = {
        row["name"]: float(row["value"]) for row in rows if (row["kind"], row["measure"]) == ("measured", "accuracy")
    }
    assert accuracy == {name: row["accuracy"]["value"] for name, row in document["rows"].items()}
    assert all(row["differs"] for row in rows if row["kind"] == "published")
