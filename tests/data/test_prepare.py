"""Prepare: nothing is dropped, a second run changes nothing, what changed in the source changes and nothing else."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sentifuse import ConfigError, DataError
from sentifuse.data.card import Card, read_card
from sentifuse.data.labels import read_annotations, read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import prepare
from sentifuse.data.source import TableOptions
from sentifuse.data.splits import read_split

Make = Callable[..., Path]
ROWS = {str(n): ("positive,positive", "neutral,negative", "positive,negative")[n % 3] for n in range(1, 31)}


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def assert_counts_add_up(card: Card) -> None:
    counts = card.counts
    assert sum(counts["image_status"].values()) == sum(counts["text_status"].values()) == counts["pairs"]
    assert sum(counts["classes"].values()) == counts["labelled"]
    assert counts["labelled"] + sum(counts["removed"].values()) == counts["pairs"]
    assert sum(counts["split"].values()) <= counts["labelled"]


def test_prepared_dataset_has_its_files_and_a_card_that_adds_up(make_mvsa: Make, tmp_path: Path) -> None:
    card = prepare("mvsa_single", artifacts=tmp_path / "a", root=make_mvsa(ROWS))
    folder = tmp_path / "a" / "datasets" / "mvsa_single"
    assert sorted(snapshot(folder)) == [
        "annotations.parquet",
        "card.json",
        "groups.parquet",
        "image_hashes.parquet",
        "labels/multisentinet.parquet",
        "manifest.parquet",
        "splits/folds-s0.parquet",
        "splits/grouped-s0.parquet",
        "splits/random-s0.parquet",
    ]
    assert set(card.protocols) == {"random", "folds", "grouped", "grouped-folds"}
    assert "its pairs form too few groups" in card.protocols["grouped-folds"]["unusable"]  # the pictures are all plain
    assert card.protocols["random"]["folds"][0]["parts"] == {"train": 16, "val": 2, "test": 2}
    assert read_card(folder) == card
    assert_counts_add_up(card)
    assert card.counts["classes"] == {"negative": 10, "neutral": 0, "positive": 10}
    assert card.counts["removed"] == {"conflict": 10}
    assert card.published["multisentinet"]["pairs"] == 4511
    assert (card.reader, card.encoding, card.rule, card.protocol, card.seed) == (
        "mvsa_single", "gb18030", "multisentinet", "random", 0,
    )  # fmt: skip
    json.dumps(card.to_json())


def test_second_run_writes_nothing(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    card = prepare("mvsa_single", artifacts=tmp_path / "a", root=root)
    before = snapshot(tmp_path / "a")
    assert prepare("mvsa_single", artifacts=tmp_path / "a", root=root) == card
    assert prepare("mvsa_single", artifacts=tmp_path / "a") == card  # the root is remembered
    assert snapshot(tmp_path / "a") == before


def test_new_pairs_are_appended_wherever_their_ids_sort(make_mvsa: Make, tmp_path: Path) -> None:
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa({"5": "neutral,neutral", "7": "neutral,neutral"}))
    root = make_mvsa(dict.fromkeys(("1", "5", "6", "7", "9"), "neutral,neutral"))
    card = prepare("mvsa_single", artifacts=tmp_path, root=root)
    assert read_manifest(tmp_path / "datasets" / "mvsa_single").ids == ("5", "7", "1", "6", "9")
    assert card.counts["labelled"] == 5


def test_edited_text_changes_one_digest_and_gone_pairs_are_withdrawn(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    folder = tmp_path / "datasets" / "mvsa_single"
    prepare("mvsa_single", artifacts=tmp_path, root=root)
    before = read_manifest(folder)
    (root / "data" / "3.txt").write_bytes(b"another tweet")
    labels = (root / "labelResultAll.txt").read_bytes()
    (root / "labelResultAll.txt").write_bytes(labels.replace(b"4\tneutral,negative\r\n", b"", 1))
    card = prepare("mvsa_single", artifacts=tmp_path)
    after = read_manifest(folder)
    changed = [new.id for old, new in zip(before.pairs, after.pairs, strict=True) if old != new]
    assert changed == ["3", "4"]
    assert (after.by_id()["3"].text, after.by_id()["4"].image_status) == ("another tweet", "withdrawn")
    assert card.counts["removed"]["withdrawn"] == 1
    assert_counts_add_up(card)
    assert "4" not in {id_ for ids in read_split(folder, parts=("train", "val", "test")).values() for id_ in ids}


def test_missing_text_and_image_are_statuses_of_a_kept_row(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    (root / "data" / "1.jpg").unlink()
    (root / "data" / "2.txt").unlink()
    card = prepare("mvsa_single", artifacts=tmp_path, root=root, max_failures=0)
    pairs = read_manifest(tmp_path / "datasets" / "mvsa_single").by_id()
    assert (pairs["1"].image_status, pairs["1"].image_digest, pairs["1"].text_status) == ("missing", "", "ok")
    assert (pairs["2"].text_status, pairs["2"].text, pairs["2"].text_encoding) == ("missing", "", "")
    assert card.counts["image_status"] == {"missing": 1, "ok": 29}
    assert card.counts["failures"] == 0
    assert_counts_add_up(card)


def test_texts_are_kept_as_read(make_mvsa: Make, tmp_path: Path) -> None:
    long = b"word " * 10_000
    texts = {"1": b"", "2": b" a\0b \xa1\xad\r\n", "3": long, "4": b"\xff\xff"}
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa(ROWS, texts=texts))
    pairs = read_manifest(tmp_path / "datasets" / "mvsa_single").by_id()
    assert (pairs["1"].text_status, pairs["1"].text) == ("ok", "")
    assert len(pairs["1"].text_digest) == 64
    assert pairs["2"].text == " a\0b …\r\n"
    assert pairs["3"].text == long.decode()
    assert pairs["4"].text_status == "undecodable: bytes ff ff at 0 are not gb18030"


def test_bad_rows_keep_a_row_and_a_reason(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS, tail=b"90\tneutral\r\n91\tpostive,neutral\r\nrubbish\r\n")
    card = prepare("mvsa_single", artifacts=tmp_path, root=root)
    folder = tmp_path / "datasets" / "mvsa_single"
    labels = read_labels(folder)
    reasons = dict(zip(labels.ids, labels.reasons, strict=True))
    assert reasons["90"] == "malformed row: expected two words 'text,image', found 'neutral'"
    assert reasons["91"] == "unknown label word 'postive'"
    assert card.counts["removed"] == {"conflict": 10, "malformed row": 1, "unknown label word": 1}
    assert card.counts["failures"] == 3
    assert [problem["where"] for problem in card.problems] == [
        *(f"labelResultAll.txt line {n}" for n in (32, 33, 34)),
        "labels",  # a class without any pair
    ]
    assert {one.label for one in read_annotations(folder) if one.id == "91"} == {"postive", "neutral"}
    assert_counts_add_up(card)


def test_too_many_bad_rows_are_an_error_after_everything_was_written(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS, tail=b"".join(b"%d\tneutral\r\n" % number for number in range(100, 111)))
    with pytest.raises(DataError, match=r"at most 10 bad rows, found 11 in 41: .* --max-failures 11"):
        prepare("mvsa_single", artifacts=tmp_path, root=root)
    assert_counts_add_up(read_card(tmp_path / "datasets" / "mvsa_single"))
    assert prepare("mvsa_single", artifacts=tmp_path, root=root, max_failures=11).counts["pairs"] == 41


def test_rule_changes_labels_and_split_and_neither_manifest_nor_annotations(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    prepare("mvsa_single", artifacts=tmp_path, root=root)
    folder = tmp_path / "datasets" / "mvsa_single"
    before = snapshot(folder)
    card = prepare("mvsa_single", artifacts=tmp_path, root=root, rule="consistent", seed=3)
    after = snapshot(folder)
    assert card.counts["removed"] == {"unequal": 20}
    assert all(after[name] == before[name] for name in ("manifest.parquet", "annotations.parquet"))
    assert "splits/random-s3.parquet" in after
    assert read_labels(folder).rule == "consistent"


def test_labels_of_a_rule_follow_the_annotations(make_mvsa: Make, tmp_path: Path) -> None:
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa(ROWS))
    folder = tmp_path / "datasets" / "mvsa_single"
    assert read_labels(folder, "consistent").class_counts()["positive"] == 10
    prepare("mvsa_single", artifacts=tmp_path, root=make_mvsa(ROWS | {"2": "positive,positive"}))
    assert read_labels(folder, "consistent").class_counts()["positive"] == 11


def test_encoding_once_named_stays_until_the_source_is_named_anew(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    assert prepare("mvsa_single", artifacts=tmp_path, root=root, encoding="UTF8").encoding == "utf-8"
    assert prepare("mvsa_single", artifacts=tmp_path).encoding == "utf-8"
    assert prepare("mvsa_single", artifacts=tmp_path, root=root).encoding == "gb18030"


def test_damaged_files_are_named_or_made_anew(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    card = prepare("mvsa_single", artifacts=tmp_path, root=root)
    folder = tmp_path / "datasets" / "mvsa_single"
    (folder / "card.json").write_text("{")
    with pytest.raises(DataError, match=r"card\.json: not JSON .* Delete it\. Run: sentifuse data prepare mvsa_single"):
        read_card(folder)
    assert prepare("mvsa_single", artifacts=tmp_path, root=root) == card
    (folder / "manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"manifest\.parquet: .* Delete it"):
        prepare("mvsa_single", artifacts=tmp_path, root=root)


@pytest.mark.parametrize("step", range(8))
def test_full_disk_leaves_the_dataset_as_it_was(
    make_mvsa: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whichever of the files cannot be written, what is there still reads, and the next run ends as if nothing was."""
    root = make_mvsa(ROWS)
    prepare("mvsa_single", artifacts=tmp_path / "a", root=root)
    grown = make_mvsa(ROWS | {"77": "positive,neutral"}, texts={"1": b"edited"})
    prepare("mvsa_single", artifacts=tmp_path / "b", root=grown)
    calls = iter(range(100))
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if next(calls) >= 2 * step:  # a file and its folder each
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match="No space left on device"):
        prepare("mvsa_single", artifacts=tmp_path / "a", root=grown)
    monkeypatch.undo()
    folder = tmp_path / "a" / "datasets" / "mvsa_single"
    assert len(read_labels(folder).ids) == len(read_manifest(folder)) in (30, 31)
    assert read_split(folder, parts=("train",))["train"]
    prepare("mvsa_single", artifacts=tmp_path / "a", root=grown)
    assert {name: content for name, (content, _) in snapshot(folder).items()} == {
        name: content for name, (content, _) in snapshot(tmp_path / "b" / "datasets" / "mvsa_single").items()
    }


def test_artefacts_folder_that_is_a_file_is_a_data_error(make_mvsa: Make, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        prepare("mvsa_single", artifacts=tmp_path / "a", root=make_mvsa(ROWS))


def shop(folder: Path, n: int = 40) -> Path:
    folder.mkdir(exist_ok=True)
    lines = ["id,image,text,label,split"]
    for number in range(n):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
        part = "test" if number % 4 == 0 else "train"
        lines.append(f"{number:03},{number}.png,text {number},{'joy' if number % 2 else 'anger'},{part}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def test_own_table_keeps_its_classes_and_its_split(tmp_path: Path) -> None:
    table = TableOptions(path=shop(tmp_path / "shop"))
    card = prepare("shop", artifacts=tmp_path, table=table)
    folder = tmp_path / "datasets" / "shop"
    assert (card.classes, card.rule, card.protocol, card.encoding) == (("anger", "joy"), "given", "given", "utf-8")
    assert card.counts["split"] == {"train": 27, "val": 3, "test": 10}
    assert read_split(folder, parts=("test",))["test"] == tuple(f"{number:03}" for number in range(0, 40, 4))
    assert read_split(folder, protocol="random", parts=("test",))["test"] != read_split(folder, parts=("test",))["test"]
    assert "no validation part given" in card.problems[-1]["what"]
    assert_counts_add_up(card)
    before = snapshot(tmp_path / "datasets")
    assert prepare("shop", artifacts=tmp_path) == card  # the table is remembered
    assert prepare("shop", artifacts=tmp_path, reader="pairs", table=table) == card
    assert snapshot(tmp_path / "datasets") == before


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_split_column_without_a_class_in_a_part_is_told(tmp_path: Path, part: str) -> None:
    rows = [(i, ("good", "bad")[i % 2], ("train", "val", "test")[i // 10]) for i in range(30)]
    lines = [f"{i},word {i},{label},{split}" for i, label, split in rows if (label, split) != ("bad", part)]
    (tmp_path / "own.csv").write_text("\n".join(["id,text,label,split", *lines]) + "\n", encoding="utf-8")
    table = TableOptions(path=tmp_path / "own.csv", classes=("good", "bad", "odd"))
    said = [problem["what"] for problem in prepare("own", artifacts=tmp_path, table=table).problems]
    assert f"no pair of bad in the {part} part: numbers of this split leave the class out" in said
    assert "classes without any labelled pair: odd" in said


def test_options_of_a_table_come_back_from_the_card(tmp_path: Path) -> None:
    options = TableOptions(path=tmp_path / "p.csv", root=tmp_path, label_column="mood", classes=("b", "a"))
    for one in (options, TableOptions(path=tmp_path / "p.csv")):
        assert TableOptions.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_own_images_may_lie_elsewhere(tmp_path: Path) -> None:
    path = shop(tmp_path / "photos")
    moved = path.rename(tmp_path / "pairs.csv")
    assert prepare("shop", artifacts=tmp_path, table=TableOptions(path=moved)).counts["image_status"] == {"missing": 40}
    card = prepare("shop", artifacts=tmp_path, table=TableOptions(path=moved), root=tmp_path / "photos")
    assert card.counts["image_status"] == {"ok": 40}


def test_table_without_labels_is_prepared(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"id": 1, "text": "half \\ud83d emoji", "image": null}\n{"id": 2, "image": "."}\n'
    )
    card = prepare("mine", artifacts=tmp_path, table=TableOptions(path=tmp_path / "p.jsonl"))
    assert card.counts["removed"] == {"unlabelled": 2}
    assert card.counts["text_status"] == {"missing": 1, "undecodable": 1}
    assert card.counts["image_status"] == {"missing": 1, "unreadable": 1}
    assert card.counts["failures"] == 2
    assert read_split(tmp_path / "datasets" / "mine", parts=("train",)) == {"train": ()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mvsa_singel", "did you mean 'mvsa_single'"),
        ("shop", "sentifuse data prepare pairs --name shop --table FILE"),
        ("pairs", "--table FILE"),
        ("../x", "dataset name"),
    ],
)
def test_unknown_name_says_what_there_is(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(name, artifacts=tmp_path)


def test_settings_are_checked_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'consistent'"):
        prepare("mvsa_single", artifacts=tmp_path, rule="consistant")
    table = TableOptions(path=shop(tmp_path / "shop"))
    with pytest.raises(ConfigError, match="a name of your own"):
        prepare("sample", artifacts=tmp_path, reader="pairs", table=table)
    with pytest.raises(ConfigError, match=r"--folds: expected 3 or more .* found 2"):
        prepare("shop", artifacts=tmp_path, table=table, folds=2)
    with pytest.raises(ConfigError, match="--encoding"):
        prepare("shop", artifacts=tmp_path, table=table, encoding="klingon")
    assert not (tmp_path / "datasets").exists()


def test_progress_counts_every_pair(make_mvsa: Make, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    hashed: list[tuple[int, int]] = []
    options = {
        "progress": lambda done, total: seen.append((done, total)),
        "hash_progress": lambda done, total: hashed.append((done, total)),
    }
    root = make_mvsa(ROWS)
    contents = len({path.read_bytes() for path in (root / "data").glob("*.jpg")})
    prepare("mvsa_single", artifacts=tmp_path, root=root, **options)
    assert seen == [(number, 30) for number in range(1, 31)]
    assert hashed == [(number, contents) for number in range(1, contents + 1)]
    prepare("mvsa_single", artifacts=tmp_path, root=root, **options)
    assert len(hashed) == contents


@pytest.mark.slow
def test_real_pairs_give_the_known_counts(shared: Path, tmp_path: Path) -> None:
    card = prepare("mvsa_single", artifacts=tmp_path, root=shared / "mvsa_single", max_failures=0)
    assert card.counts["classes"] == {"negative": 1193, "neutral": 419, "positive": 2388}
    assert card.counts["removed"] == {"conflict": 358}
    assert card.counts["text_status"] == card.counts["image_status"] == {"ok": 4358}
    texts = {pair.id: pair.text for pair in read_manifest(tmp_path / "datasets" / "mvsa_single").pairs}
    assert "笑" in texts["4499"]


def test_half_surrogates_and_endless_ids_do_not_stop_the_other_rows(tmp_path: Path) -> None:
    rows = [{"id": str(n), "image": f"{n}.png", "text": "x", "label": "ab"[n % 2]} for n in range(30)]
    rows[3]["image"], rows[4]["label"], rows[5]["text"], rows[6]["id"] = "\ud800.png", "a\ud800", "\ud800", "x" * 2000
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    card = prepare("odd", artifacts=tmp_path / "a", table=TableOptions(path=path, classes=("a", "b")))
    folder = tmp_path / "a" / "datasets" / "odd"
    pairs = read_manifest(folder).by_id()
    assert len(pairs) == 29
    assert pairs["3"].image_path == "\\ud800.png"
    assert pairs["5"].text_status.startswith("undecodable")
    assert read_labels(folder).by_id().get("4") is None
    assert [problem["where"] for problem in card.problems if "at most 1024 bytes" in problem["what"]] == [
        "pairs.jsonl line 7"
    ]


def test_stray_file_with_a_name_that_is_no_text_is_reported(make_mvsa: Make, tmp_path: Path) -> None:
    root = make_mvsa(ROWS)
    Path(os.fsdecode(os.fsencode(root / "data") + b"/\xb0\xa1.txt")).write_bytes(b"")
    card = prepare("mvsa_single", artifacts=tmp_path / "a", root=root)
    assert any("belong to no label row" in problem["what"] for problem in card.problems)
    assert read_card(tmp_path / "a" / "datasets" / "mvsa_single") == card
