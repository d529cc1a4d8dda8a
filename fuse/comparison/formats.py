"""A comparison's tables as Markdown, LaTeX and CSV. Draws what `grids` says; the CSV has the numbers themselves."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sentifuse.fuse.comparison.grids import Grid
from sentifuse.fuse.comparison.rows import MEASURES

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "†": r"\textsuperscript{\dag}",
    "λ": r"$\lambda$",
    "√": r"$\surd$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "é": r"\'e",
    "“": "``",
    "”": "''",
    "’": "'",
}


def to_markdown(heading: str, grids: Sequence[Grid], files: Sequence[str] = ()) -> str:
    """Headings, tables and notes; pictures of the same folder below."""
    lines = [f"# {_markdown(heading)}"]
    for grid in grids:
        lines += ["", f"## {_markdown(grid.title)}", ""]
        lines.append("| " + " | ".join(map(_markdown, grid.headings)) + " |")
        lines.append("|" + " --- |" * len(grid.headings))
        lines += ["| " + " | ".join(map(_markdown, row)) + " |" for row in grid.rows]
        lines += [part for note in grid.notes for part in ("", _markdown(note))]
    lines += [part for file in files for part in ("", f"![{file}]({file})")]
    return "\n".join(lines) + "\n"


def to_latex(heading: str, grids: Sequence[Grid]) -> str:
    r"""Tables to `\input` into a document that has `\usepackage{booktabs}`; every sign is one that LaTeX can set."""
    lines = ["% needs \\usepackage{booktabs}", f"% {_ascii(heading)}"]
    for grid in grids:
        lines += ["", "\\begin{table}", "\\centering\\small", f"\\caption{{{escape_latex(grid.title)}}}"]
        lines += [f"\\begin{{tabular}}{{{'l' * len(grid.headings)}}}", "\\toprule"]
        lines += [_latex_row(grid.headings), "\\midrule", *map(_latex_row, grid.rows), "\\bottomrule", "\\end{tabular}"]
        lines += [f"\\par\\smallskip{{\\footnotesize {escape_latex(note)}\\par}}" for note in grid.notes]
        lines.append("\\end{table}")
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    r"""Text as LaTeX shows it; what it cannot set becomes a question mark.

    >>> escape_latex("itin_x: 72.3 ± 1.0 % < 5")
    'itin\\_x: 72.3 $\\pm$ 1.0 \\% $<$ 5'
    """
    shown = ["".join(_LATEX.get(sign, sign if sign.isascii() else "?") for sign in part) for part in text.split("--")]
    return "-{}-".join(shown)  # an option of ours, not LaTeX's dash


def to_csv(document: Mapping[str, Any]) -> str:
    """One line per row and number, fractions of 1; `kind` parts what was measured from what was published.

    Columns: kind (measured, subset, missing, difference, published), name, of (subset, kind and rate, or source),
    measure, value, sd, low, high, n, differs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "name", "of", "measure", "value", "sd", "low", "high", "n", "differs"))
    for name, row in document["rows"].items():
        for measure in MEASURES:
            found = row[measure]
            numbers = (found["value"], found["sd"], found["low"], found["high"])
            writer.writerow(("measured", name, "", measure, *numbers, row["n_runs"], ""))
        writer.writerow(
            ("measured", name, "", "seconds", row["seconds"]["mean"], row["seconds"]["sd"], "", "", row["n_runs"], "")
        )
    for name, found in document["differences"].items():
        ends = (found["difference"], found["over_runs"]["sd"], found["low"], found["high"])
        writer.writerow(("difference", name, found["baseline"], "accuracy", *ends, found["n"], found["verdict"]))
    for block in document["subsets"]:
        for name, subsets in block["rows"].items():
            for subset, found in subsets.items():
                numbers = (found.get("accuracy"), "", found.get("low"), found.get("high"))
                writer.writerow(("subset", name, subset, "accuracy", *numbers, found["n"], ""))
    for block in document["missing"]:
        for name, cells in block["rows"].items():
            for cell in cells:
                of = f"{block['missing']} {cell['rate']:g}"
                numbers = (cell["accuracy"], cell["sd"], "", "")
                writer.writerow(("missing", name, of, "accuracy", *numbers, cell["n_runs"], ""))
    for one in document["published"]:
        for measure in ("accuracy", "f1"):
            if one[measure] is not None:
                row = ("published", one["system"], one["title"], measure, one[measure], "", "", "", "")
                writer.writerow((*row, "; ".join(one["differs"])))
    return text.getvalue()


def _markdown(text: str) -> str:
    return re.sub(r"([|*_<>\[\]`])", r"\\\1", text)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + " \\\\"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
