"""A table looks the same in a terminal, and LaTeX can set it."""

from sentifuse.fuse.tables import Grid, escape_latex, plain_lines


def test_every_sign_of_latex_is_escaped() -> None:
    escaped = escape_latex("a_b & 50 % {x} #1 $ ^ ~ \\ ± † --protocol")
    assert escaped == (
        r"a\_b \& 50 \% \{x\} \#1 \$ \textasciicircum{} \textasciitilde{} \textbackslash{} $\pm$ "
        r"\textsuperscript{\dag} -{}-protocol"
    )


def test_columns_stand_under_each_other() -> None:
    grid = Grid(title="t", headings=("a", "b"), rows=(("long", "1"), ("x", "2")), notes=("n",))
    assert plain_lines([grid]) == ["t", "a     b", "----  -", "long  1", "x     2", "n"]
