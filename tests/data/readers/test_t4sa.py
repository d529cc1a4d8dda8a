"""B-T4SA's lists, images and texts, whole and damaged: every listed image is a pair, and no tweet is in two parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentifuse import DataError
from sentifuse.data.audit import audit
from sentifuse.data.groups import read_groups
from sentifuse.data.labels import read_annotations, read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir, prepare
from sentifuse.data.readers.t4sa import PUBLISHED, T4sa, list_name, parse_row, read_list
from sentifuse.data.source import SENTIMENT, ReadRequest, Source
from sentifuse.data.splits import read_split, read_split_facts
from sentifuse.data.tweets import tweet_of

Rows = Sequence[tuple[str, str]]


def tweet(number: int) -> str:
    return f"7{number:017d}"


def path_of(image: str) -> str:
    return f"data/{image[:5]}/{image}.jpg"


def write_lists(folder: Path, lists: Mapping[str, Rows], suffix: str = ".txt", blank: str = " ") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val", "test"):
        lines = [f"{path_of(image)}{blank}{code}\n" for image, code in lists.get(part, ())]
        (folder / list_name(part, suffix)).write_text("".join(lines), encoding="utf-8")


def write_images(folder: Path, lists: Mapping[str, Rows]) -> None:
    images = [image for rows in lists.values() for image, _ in rows]
    for number, image in enumerate(images):
        path = folder / path_of(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 256, 90, 40)).save(path, "PNG")  # lossless: all differ


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    lines = ["id,text", *(f'{id_},"{text}"' for id_, text in texts.items())]
    (folder / "raw_tweets_text.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_scores(folder: Path, scores: Mapping[str, str]) -> None:
    lines = ["TWID\tNEG\tNEU\tPOS", *(f"{id_}\t{cells}" for id_, cells in scores.items())]
    (folder / "t4sa_text_sentiment.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


SCORES = {"0": "0.8\t0.15\t0.05", "1": "0.1\t0.7\t0.2", "2": "0.05\t0.05\t0.9"}


def nine_tweets() -> dict[str, list[tuple[str, str]]]:
    """Three tweets a part, one of each class; the first of each part has images 1 and 3, the others one."""
    lists: dict[str, list[tuple[str, str]]] = {}
    for place, part in enumerate(("train", "val", "test")):
        ids = [tweet(place * 3 + code) for code in range(3)]
        lists[part] = [(f"{ids[0]}-1", "0"), (f"{ids[0]}-3", "0"), (f"{ids[1]}-1", "1"), (f"{ids[2]}-2", "2")]
    return lists


def make(root: Path, lists: Mapping[str, Rows] | None = None) -> Path:
    """The published layout: lists and images in one folder, the tables beside them."""
    lists = nine_tweets() if lists is None else lists
    write_lists(root, lists)
    write_images(root, lists)
    codes = {tweet_of(image): code for rows in lists.values() for image, code in rows}
    write_texts(root, {id_: f"text of {id_}, code {code}" for id_, code in codes.items()})
    write_scores(root, {id_: SCORES[code] for id_, code in codes.items()})
    return root


def read(root: Path | None, encoding: str | None = None) -> Source:
    return T4sa().read(ReadRequest(dataset_dir=Path("unused"), root=root, encoding=encoding))


def notes(source: Source) -> str:
    return "\n".join(f"{problem.where}: {problem.what}" for problem in source.problems)


def test_prepare_keeps_every_listed_image_with_its_tweets_text_and_its_published_part(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    (root / path_of(f"{tweet(0)}-3")).unlink()  # one of two images
    (root / path_of(f"{tweet(4)}-1")).unlink()  # the only image
    (root / path_of(f"{tweet(8)}-2")).write_bytes(b"<!DOCTYPE html><title>Not found</title>")
    card = prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    assert (card.reader, card.rule, card.protocol, card.classes) == ("t4sa", "given", "given", SENTIMENT)
    assert card.counts["pairs"] == card.counts["labelled"] == 12
    assert card.counts["classes"] == {"negative": 6, "neutral": 3, "positive": 3}
    assert card.counts["image_status"] == {"missing": 2, "ok": 10}
    assert card.counts["text_status"] == {"ok": 12}
    assert card.counts["split"] == {"train": 4, "val": 4, "test": 4}
    whats = [problem["what"] for problem in card.problems]
    assert f"1 tweets have ({tweet(4)}) none of their images here" in whats
    assert f"1 tweets lack ({tweet(0)}) some of their images and keep the others" in whats
    assert any("a machine gave them" in what for what in whats)
    assert card.published == PUBLISHED
    assert sum(PUBLISHED["parts"].values()) == sum(PUBLISHED["b-t4sa"][name] for name in SENTIMENT) == 470586

    folder = dataset_dir(tmp_path / "artifacts", "t4sa")
    pairs = read_manifest(folder).by_id()
    assert pairs[f"{tweet(0)}-1"].text == pairs[f"{tweet(0)}-3"].text == f"text of {tweet(0)}, code 0"
    assert pairs[f"{tweet(0)}-1"].image_path == f"data/70000/{tweet(0)}-1.jpg"
    parts = read_split(folder, parts=("train", "val", "test"))
    assert parts == {part: tuple(image for image, _ in rows) for part, rows in nine_tweets().items()}
    found = audit(folder)
    assert found.missing_images == (f"{tweet(0)}-3", f"{tweet(4)}-1")
    assert found.unreadable_images == {f"{tweet(8)}-2": "not an image"}

    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    prepare("t4sa", artifacts=tmp_path / "artifacts")
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_labels_of_a_machine_are_the_pairs_and_no_persons(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    folder = dataset_dir(tmp_path / "artifacts", "t4sa")
    assert {one.modality for one in read_annotations(folder)} == {"pair"}
    labels = read_labels(folder)
    assert [labels.by_id()[image] for image, _ in nine_tweets()["val"]] == [
        "negative",
        "negative",
        "neutral",
        "positive",
    ]
    assert not labels.by_id("text_label")
    assert not labels.by_id("image_label")


def test_a_tweet_in_two_parts_stays_whole_in_the_one_that_tests_most(tmp_path: Path) -> None:
    lists = nine_tweets()
    lists["train"] += [(f"{tweet(6)}-2", "0"), (f"{tweet(3)}-4", "0")]  # of a test tweet and of a validation tweet
    lists["val"] += [(f"{tweet(6)}-4", "0")]  # of the same test tweet
    source = read(make(tmp_path, lists))
    parts = {pair.id: pair.split for pair in source.pairs}
    assert len(parts) == 15
    outside = [f"{tweet(6)}-2", f"{tweet(3)}-4", f"{tweet(6)}-4"]
    assert [id_ for id_, part in parts.items() if part is None] == outside
    tweets_of_part: dict[str, set[str]] = {}
    for id_, part in parts.items():
        if part is not None:
            tweets_of_part.setdefault(part, set()).add(tweet_of(id_))
    assert {part: len(tweets) for part, tweets in tweets_of_part.items()} == {"train": 3, "val": 3, "test": 3}
    assert len(set.union(*tweets_of_part.values())) == 9  # none is counted twice
    assert f"2 tweets have ({tweet(6)}, {tweet(3)}) images in more than one part; 3 of these images" in notes(source)


@pytest.mark.parametrize(
    ("content", "blank"),
    [
        (" 2\n", " "),
        ("\t2\r\n", "\t"),
        (",2", ","),
        (" 2 \r", "  "),
    ],
    ids=["as published", "tabs, CRLF", "a comma, no end", "blanks, CR"],
)
def test_rows_are_the_same_whatever_separates_them(tmp_path: Path, content: str, blank: str) -> None:
    path = tmp_path / "b-t4sa_train.tsv"
    header = f"path{blank}class\n" if blank != " " else "\ufeff"
    first = f"{path_of('758014713804587008-1')}{blank}0\n"
    path.write_bytes(f"{header}{first}{path_of('758014713804587009-4')}{content}".encode())
    rows, problems = read_list(path)
    assert [(row.id, row.path, row.label) for row in rows] == [
        ("758014713804587008-1", "data/75801/758014713804587008-1.jpg", "negative"),
        ("758014713804587009-4", "data/75801/758014713804587009-4.jpg", "positive"),
    ]
    assert problems == []


@pytest.mark.parametrize(
    "line",
    [
        "../75801/758014713804587008-1.jpg 2",
        "data/../../758014713804587008-1.jpg 2",
        "/data/75801/758014713804587008-1.jpg 2",
        "data/75801/758014713804587008.jpg 2",
        "data/75801/picture-1.jpg 2",
        "7.58E+17-1 2",
    ],
)
def test_paths_that_leave_the_folder_or_name_no_tweet_are_malformed(line: str) -> None:
    row = parse_row(1, line)
    assert row.id == row.path == ""
    assert "expected a path that ends in <tweet id>-<k>.jpg" in row.malformed


def test_unknown_labels_and_malformed_rows_are_named_and_counted(tmp_path: Path) -> None:
    lists = nine_tweets()
    lists["train"] += [(f"{tweet(20)}-1", "3"), (f"{tweet(21)}-1", "Too low")]
    root = make(tmp_path / "T4SA", {part: rows[:4] for part, rows in lists.items()})
    write_lists(root, lists)
    with (root / "b-t4sa_train.txt").open("a") as file:
        file.write("nothing 2\n")
    source = read(root)
    failures = [problem for problem in source.problems if problem.is_failure]
    assert [(problem.id, problem.where) for problem in failures] == [
        (f"{tweet(20)}-1", "b-t4sa_train.txt line 5"),
        (f"{tweet(21)}-1", "b-t4sa_train.txt line 6"),
        ("", "b-t4sa_train.txt line 7"),
    ]
    card = prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    assert card.counts["pairs"] == 14
    assert card.counts["removed"] == {"malformed row": 1, "unknown label word": 1}


@pytest.mark.parametrize("content", [b"", b"\n\n", b"path label\n", b"<html>\n<body>\nNot here\n</html>\n"])
def test_list_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b-t4sa_val.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"b-t4sa_val\.txt: expected rows 'data/75801/.* 2', "):
        read_list(path)


def test_image_on_two_lines_stops_with_both_places(tmp_path: Path) -> None:
    lists = nine_tweets()
    lists["test"] += [lists["train"][1]]
    with pytest.raises(DataError, match=r"-3 at b-t4sa_train\.txt line 2 and b-t4sa_test\.txt line 5"):
        read(make(tmp_path, lists))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "b-t4sa_val.txt").unlink()
    with pytest.raises(DataError, match=r"b-t4sa_val\.txt: not there.*Get the missing list"):
        read(root)


@pytest.mark.parametrize("root", [None, "nowhere", "empty"])
def test_folder_without_lists_says_what_is_expected(tmp_path: Path, root: str | None) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"b-t4sa_.*data prepare t4sa --root DIR"):
        read(None if root is None else tmp_path / root)


def test_lists_without_the_unpacked_images_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    (root / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"none of 1 folders of images, data/70000 the first\. Unpack"):
        read(root)


def test_images_may_lie_with_the_lists_in_the_folder_of_the_archive(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    archive = root / "b-t4sa_imgs"
    archive.mkdir()
    for path in [root / "data", *root.glob("*.txt")]:
        path.rename(archive / path.name)
    for named in (root, archive):
        source = read(named)
        assert (source.root, source.path) == (archive, archive / "b-t4sa_train.txt")
        assert [pair.text for pair in source.pairs].count(None) == 0
        assert all((source.root / pair.image_path).is_file() for pair in source.pairs)


def test_lists_labelled_anew_are_read_where_they_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    anew = {part: [(image, "2") for image, _ in rows] for part, rows in nine_tweets().items()}
    write_lists(root / "relabelled", anew, ".tsv", "\t")
    assert {one.label for one in read(root).annotations[:4]} == {"negative", "neutral", "positive"}
    source = read(root / "relabelled")
    assert source.root == root
    assert [one.label for one in source.annotations[:4]] == ["positive"] * 4
    assert [pair.text for pair in source.pairs] == [pair.text for pair in read(root).pairs]
    # A teacher that says the same of all: no order of the columns agrees with it, so this may be its own doing.
    assert "6 of 9 listed tweets have" in notes(source)
    assert "their largest share in another class. That is most of them: are columns swapped?" in notes(source)

    write_lists(root, anew, ".tsv", "\t")
    with pytest.raises(DataError, match=r"several sets of lists: .*train\.txt, .*train\.tsv\. Name the folder"):
        read(root)


def test_swapped_columns_stop_where_sums_cannot_tell_them(tmp_path: Path) -> None:
    root = make(tmp_path)
    scores = {tweet(number): SCORES[str(2 - number % 3)] for number in range(9)}  # NEG and POS exchanged
    write_scores(root, scores)
    with pytest.raises(DataError, match=r"found another for 6 of 9 tweets, .*Are columns swapped\?"):
        read(root)


@pytest.mark.parametrize("order", ["POS NEU NEG", "NEU POS NEG", "POS NEG NEU"])
def test_swapped_columns_stop_beside_lists_labelled_anew_too(tmp_path: Path, order: str) -> None:
    """The later teacher sees two of nine tweets otherwise; the columns have the order named, without a header."""
    root = make(tmp_path / "T4SA")
    anew = {part: [(image, code) for image, code in rows] for part, rows in nine_tweets().items()}
    anew["test"] = [(image, "1") for image, _ in anew["test"]]
    write_lists(root / "anew", anew, ".tsv", "\t")
    names = ("NEG", "NEU", "POS")
    lines = []
    for number in range(9):
        cells = dict(zip(names, SCORES[str(number % 3)].split("\t"), strict=True))
        lines.append("\t".join([tweet(number), *(cells[name] for name in order.split())]))
    (root / "t4sa_text_sentiment.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"Are columns swapped\? Most agree if the order is TWID {order}\. "):
        read(root / "anew")
    write_scores(root, {tweet(number): SCORES[str(number % 3)] for number in range(9)})
    assert "2 of 9 listed tweets have" in notes(read(root / "anew"))
    assert "are columns swapped" not in notes(read(root / "anew"))


def test_shares_that_do_not_add_up_stop_prepare_before_anything_is_written(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    write_scores(root, {tweet(0): SCORES["0"], tweet(77): "0.9\t0.8\t0.7"})
    with pytest.raises(DataError, match=r"t4sa_text_sentiment\.tsv line 3: .*sum 2\.4.*Are columns swapped"):
        prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    assert not (tmp_path / "artifacts").exists()


def test_texts_and_shares_of_unlisted_tweets_and_images_are_counted_and_not_registered(tmp_path: Path) -> None:
    root = make(tmp_path)
    texts = {tweet(number): "so it is" for number in (*range(8), 50, 51)}  # not 8, and two without an image
    write_texts(root, texts)
    write_scores(root, {tweet(number): SCORES[str(number % 3)] for number in (0, 1, 60)})
    Image.new("RGB", (8, 8)).save(root / path_of(f"{tweet(0)}-2"))
    source = read(root)
    assert len(source.pairs) == 12
    assert [pair.id for pair in source.pairs if pair.text is None] == [f"{tweet(8)}-2"]
    said = notes(source)
    assert f"raw_tweets_text.csv: 1 listed tweets have ({tweet(8)}) no row there" in said
    assert "raw_tweets_text.csv: 2 rows are of tweets without a listed image" in said
    assert "t4sa_text_sentiment.tsv: 7 listed tweets have" in said
    assert "images: 1 files beside the listed images stand in no list" in said
    assert not any(problem.is_failure for problem in source.problems)


def test_without_the_table_of_texts_pairs_stay_and_the_card_says_why(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "raw_tweets_text.csv").unlink()
    (root / "t4sa_text_sentiment.tsv").unlink()
    source = read(root)
    assert [pair.text for pair in source.pairs] == [None] * 12
    assert "raw_tweets_text.csv: not found beside the lists" in notes(source)


def test_named_encoding_is_obeyed_and_a_bad_byte_spoils_one_tweet_alone(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    lines = [b"id,text", *(f"{tweet(n)},caf".encode() + (b"\xe9" if n == 3 else b"\xc3\xa9") for n in range(9))]
    (root / "raw_tweets_text.csv").write_bytes(b"\n".join(lines))
    card = prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    assert card.counts["text_status"] == {"ok": 10, "undecodable": 2}
    card = prepare("t4sa", artifacts=tmp_path / "latin", root=root, encoding="latin-1")
    pairs = read_manifest(dataset_dir(tmp_path / "latin", "t4sa")).by_id()
    assert pairs[f"{tweet(3)}-1"].text == "café"


def test_text_that_cannot_be_trusted_is_no_text_and_says_so(tmp_path: Path) -> None:
    root = make(tmp_path / "T4SA")
    rows = [f"{tweet(n)},so it is" for n in range(9)]
    rows[2] = f'{tweet(2)},"left open'
    rows[4] = f'{tweet(4)},"closed"'
    (root / "raw_tweets_text.csv").write_text("\n".join(["id,text", *rows]))
    card = prepare("t4sa", artifacts=tmp_path / "artifacts", root=root)
    assert card.counts["text_status"] == {"missing": 3, "ok": 8, "undecodable": 1}  # 3 and 4 are in the text of 2
    (pair,) = (pair for pair in read_manifest(dataset_dir(tmp_path / "artifacts", "t4sa")).pairs if pair.id[17] == "2")
    assert pair.text == ""
    assert "a quotation mark stays open" in pair.text_status


def test_images_of_one_tweet_with_different_labels_are_counted(tmp_path: Path) -> None:
    lists = nine_tweets()
    lists["train"][1] = (lists["train"][1][0], "2")
    root = make(tmp_path, lists)
    assert f"1 tweets have ({tweet(0)}) images of different labels, though one text" in notes(read(root))


@pytest.mark.parametrize("has_texts", [True, False])
def test_grouped_protocols_divide_no_tweet(tmp_path: Path, has_texts: bool) -> None:
    """Where there are no texts, nothing but the ids says which images are of one tweet."""
    lists: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "test": []}
    for number in range(30):
        images = [(f"{tweet(number)}-{k}", str(number % 3)) for k in (1, 2)]
        lists[("train", "train", "val", "test")[number % 4]] += images
    folder = make(tmp_path, lists)
    if not has_texts:
        (folder / "raw_tweets_text.csv").unlink()
    rng = np.random.default_rng(0)
    for path in sorted((folder / "data").rglob("*.jpg")):  # none like another
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(path, "PNG")
    card = prepare("t4sa", artifacts=tmp_path / "artifacts", root=folder)
    dataset = dataset_dir(tmp_path / "artifacts", "t4sa")
    groups = read_groups(dataset)
    assert len(set(groups.values())) == 30
    assert all(groups[id_] == f"{tweet_of(id_)}-1" for id_ in groups)
    parts = read_split(dataset, protocol="grouped", parts=("train", "val", "test"))
    tweets = [{tweet_of(id_) for id_ in ids} for ids in parts.values()]
    assert sum(map(len, tweets)) == 30
    assert all(tweets)
    # The card of the first `prepare` describes this very split, though it was written after it.
    facts = read_split_facts(dataset, protocol="grouped")
    assert card.protocols["grouped"]["folds"][0]["digest"] == facts.digest
    assert facts.leak["test"]["group"] == 0
