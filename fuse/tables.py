"""A table as words in cells, drawn for a terminal, Markdown and LaTeX. Knows nothing of what stands in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A titled table of strings with notes below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def percent(value: float | None) -> str:
    """A fraction in percent with one digit behind the point; an en dash for None.

    >>> percent(0.7234), percent(None)
    ('72.3', '–')
    """
    return "–" if value is None else f"{100 * value:.1f}".replace("-", "−")


def points(value: float) -> str:
    """A difference in hundredths with its sign.

    >>> points(0.0123), points(-0.002)
    ('+1.2', '−0.2')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def probability(p: float) -> str:
    """
    >>> probability(0.0312), probability(0.00004)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def plain_lines(grids: Sequence[Grid]) -> list[str]:
    """For a terminal: columns under each other."""
    lines = []
    for grid in grids:
        widths = [max(len(row[i]) for row in (grid.headings, *grid.rows)) for i in range(len(grid.headings))]
        lines += ["", grid.title]
        for row in (grid.headings, tuple("-" * width for width in widths), *grid.rows):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += list(grid.notes)
    return lines[1:]


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
    r"""Tables to `\input` into a document with `\usepackage{booktabs,graphicx}`; every sign is one that LaTeX can set.

    A table that is wider than the line is made smaller, as a whole.
    """
    lines = ["% needs \\usepackage{booktabs,graphicx}", f"% {_ascii(heading)}"]
    for grid in grids:
        lines += ["", "\\begin{table}", "\\centering\\small", f"\\caption{{{escape_latex(grid.title)}}}"]
        lines.append(FIT)
        lines += [f"\\begin{{tabular}}{{{'l' * len(grid.headings)}}}", "\\toprule"]
        lines += [
            _latex_row(grid.headings),
            "\\midrule",
            *map(_latex_row, grid.rows),
            "\\bottomrule",
            "\\end{tabular}}",
        ]
        lines += [f"\\par\\smallskip{{\\footnotesize\\raggedright {escape_latex(note)}\\par}}" for note in grid.notes]
        lines.append("\\end{table}")
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    r"""Text as LaTeX shows it; what it cannot set becomes a question mark.

    >>> escape_latex("itin_x: 72.3 ± 1.0 % < 5")
    'itin\\_x: 72.3 $\\pm$ 1.0 \\% $<$ 5'
    """
    shown = ["".join(_LATEX.get(sign, sign if sign.isascii() else "?") for sign in part) for part in text.split("--")]
    return "-{}-".join(shown)  # an option of ours, not LaTeX's dash


def _markdown(text: str) -> str:
    return re.sub(r"([|*_<>\[\]`])", r"\\\1", text)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + " \\\\"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
