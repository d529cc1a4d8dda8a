"""The audit names every odd pair."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sentifuse.data.audit import audit
from sentifuse.data.prepare import prepare

ODD = Path(__file__).parent / "odd_images"
ROWS = {str(n): "positive,positive" for n in range(1, 8)} | {"8": "positive,negative", "9": "neutral,negative"}


def test_audit_names_what_is_odd_and_counts_what_is_usable(make_mvsa: Callable[..., Path], tmp_path: Path) -> None:
    texts = {"1": b"same", "2": b" same\r\n", "3": b"", "4": b"RT @a: http://t.co/x", "5": b"a\0b", "6": b"\xff\xff"}
    root = make_mvsa(ROWS, texts=texts)
    data = root / "data"
    (data / "2.jpg").write_bytes((data / "1.jpg").read_bytes())
    (data / "3.jpg").write_bytes((ODD / "truncated.jpg").read_bytes())
    (data / "4.jpg").write_bytes(b"")
    (data / "7.jpg").unlink()
    prepare("mvsa_single", artifacts=tmp_path, root=root)
    (data / "5.jpg").write_bytes((ODD / "cmyk.jpg").read_bytes())
    steps: list[tuple[int, int]] = []
    found = audit(tmp_path / "datasets" / "mvsa_single", lambda done, total: steps.append((done, total)))
    assert found.unreadable_images == {"3": "truncated", "4": "empty file"}
    assert found.undecodable_texts == {"6": "bytes ff ff at 0 are not gb18030"}
    assert (found.missing_images, found.missing_texts, found.withdrawn) == (("7",), (), ())
    assert found.changed_images == ("5",)
    assert found.duplicate_images == (("1", "2"),)
    assert found.duplicate_texts == (("1", "2"),)
    assert (found.empty_texts, found.bare_texts, found.control_texts) == (("3",), ("3", "4"), ("5",))
    assert found.encodings == {"gb18030": 8}
    assert found.removed == {"conflict": ("8",)}
    assert found.sides["positive"] == {"negative": 1, "neutral": 0, "positive": 7, "none": 0}
    assert found.classes == {"negative": 1, "neutral": 0, "positive": 7}
    assert found.usable == {"pairs": 4, "negative": 1, "neutral": 0, "positive": 3}
    assert found.published["consistent"]["pairs"] == 2592
    assert found.groups["text, ends stripped"]["all"] == {"groups": 1, "members": 2, "largest": 2}
    assert (found.n_hashed, found.random_seeds) == (6, 20)
    assert {(row["split"], row["part"], row["n"]) for row in found.leaks} == {
        (f"{name}-s0", part, 0) for name in ("random", "grouped") for part in ("val", "test")
    }
    assert steps == [(n, 8) for n in range(1, 9)]
    assert json.loads(json.dumps(found.to_json()))["removed"] == {"conflict": ["8"]}


def test_images_gone_since_prepare_are_named(make_mvsa: Callable[..., Path], tmp_path: Path) -> None:
    root = make_mvsa({"1": "neutral,neutral", "2": "neutral,neutral"})
    prepare("mvsa_single", artifacts=tmp_path, root=root)
    (root / "data" / "1.jpg").unlink()
    found = audit(tmp_path / "datasets" / "mvsa_single")
    assert found.unreadable_images == {"1": "missing"}
    assert found.changed_images == ("1",)


@pytest.mark.slow
def test_real_pairs_have_the_known_oddities(shared: Path, tmp_path: Path) -> None:
    prepare("mvsa_single", artifacts=tmp_path, root=shared / "mvsa_single")
    found = audit(tmp_path / "datasets" / "mvsa_single")
    assert (len(found.duplicate_texts), sum(map(len, found.duplicate_texts))) == (138, 303)
    assert (len(found.duplicate_images), sum(map(len, found.duplicate_images))) == (43, 87)
    assert len(found.bare_texts) == 85
    assert len(found.removed["conflict"]) == 358
    assert (found.unreadable_images, found.empty_texts, found.problems) == ({}, (), ())
    assert found.sides["neutral"] == {"negative": 373, "neutral": 419, "positive": 921, "none": 0}
