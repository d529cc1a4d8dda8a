"""Files of an explanation: complete, the same every time, and safe whatever the ids."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse import ConfigError
from sentifuse.fuse.explain.explain import explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.explain.write import check_out, figure_name, write_explanations
from sentifuse.fuse.run import RunDirectory

Make = Callable[..., PairExplanation]


def test_the_json_file_holds_the_very_numbers(run_of: Callable[..., RunDirectory], tmp_path: Path) -> None:
    found = explain_pairs(run_of("itin"), ["p3", "p57"])
    files = write_explanations(tmp_path, found, title="Two")
    document = json.loads(Path(files["json"]).read_text(encoding="utf-8"))
    for one, written in zip(found, document["pairs"], strict=True):
        assert written == json.loads(json.dumps(one.to_json()))
        assert tuple(written["probabilities"]) == one.probabilities
    assert document["pairs"][0]["reasons"]["alignment"]["values"] == [
        list(row) for row in found[0].reasons.alignment.values
    ]


def test_there_is_a_figure_per_pair_and_one_page(make_explanation: Make, tmp_path: Path) -> None:
    files = write_explanations(tmp_path / "new", [make_explanation(id="a/b"), make_explanation(id="a b")], title="Two")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "01-a_b.png",
        "02-a_b.png",
        "explain.html",
        "explain.json",
    }
    assert set(files["png"]) == {"a/b", "a b"}
    for path in files["png"].values():
        assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_the_same_explanations_give_the_same_bytes(make_explanation: Make, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_explanations(tmp_path / name, [make_explanation()], title="T")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_fewer_explanations_leave_no_figure_of_earlier_ones(make_explanation: Make, tmp_path: Path) -> None:
    write_explanations(tmp_path, [make_explanation(id=name) for name in ("a", "b", "c")], title="Three")
    (tmp_path / "mine.png").write_bytes(b"dear to me")
    check_out(tmp_path)
    write_explanations(tmp_path, [make_explanation(id="b")], title="One")
    assert {path.name for path in tmp_path.iterdir()} == {"01-b.png", "explain.html", "explain.json", "mine.png"}


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    check_out(tmp_path)
    check_out(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="one with other files"):
        check_out(tmp_path)
    with pytest.raises(ConfigError, match="found a file"):
        check_out(tmp_path / "thesis.tex")


def test_half_a_surrogate_pair_can_be_written(make_explanation: Make, tmp_path: Path) -> None:
    files = write_explanations(tmp_path, [make_explanation(text="a\ud800b", pieces=())], title="T")
    assert "a\\ud800b" in Path(files["html"]).read_text(encoding="utf-8")


def test_no_id_leaves_the_folder() -> None:
    assert figure_name(1, "../../etc/passwd") == "01-_etc_passwd.png"
    assert len(figure_name(123, "x" * 500)) < 80
