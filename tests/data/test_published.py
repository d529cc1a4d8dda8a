"""Published lists are found in both layouts, checked by name, kept as given, and used only when that is honest."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sentifuse import ConfigError, DataError
from sentifuse.data.card import Card, read_card
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import prepare
from sentifuse.data.published import check_lists, find_lists, read_lists
from sentifuse.data.splits import available_protocols, read_split, read_split_facts

CLASSES = ("positive", "neutral", "negative")
ROWS = {str(n): f"{CLASSES[n % 3]},{CLASSES[n % 3]}" for n in range(60)}
IDS = list(ROWS)
PARTS = {"train": IDS[:40], "dev": IDS[40:50], "test": IDS[50:]}


def write_ids(path: Path, ids: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")


def write_clmlf(folder: Path, parts: Mapping[str, list[str]] = PARTS, *, labels: bool = True) -> Path:
    for name, ids in parts.items():
        write_ids(folder / f"{name}.txt", ids)
    if labels:
        rows = [f"{id_}\t{int(id_) % 3}\n" for ids in parts.values() for id_ in ids]
        (folder / "labels.tsv").write_text("id\tlabel\n" + "".join(rows), encoding="utf-8")
    return folder


def write_fair(folder: Path, k: int = 3) -> Path:
    for fold in range(1, k + 1):
        tested = IDS[20 * (fold - 1) : 20 * fold]
        rest = [id_ for id_ in IDS if id_ not in tested]
        for part, ids in {"test": tested, "val": rest[:6], "train": rest[6:]}.items():
            write_ids(folder / f"{part}_{fold}.txt", ids)
    codes = {"0": 1, "1": 0, "2": 2}  # neutral, positive, negative
    rows = [f"{id_},{codes[str(int(id_) % 3)]},0,0\n" for id_ in IDS]
    (folder / "valid_pairlist.txt").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def with_lists(make_mvsa: Callable[..., Path], tmp_path: Path) -> Callable[..., Card]:
    """Prepares the 60 pairs (without the ids in `lacking`) with the lists in a folder."""

    def run(lists: Path | None, *, lacking: tuple[str, ...] = (), **options: object) -> Card:
        rows = {id_: words for id_, words in ROWS.items() if id_ not in lacking}
        return prepare("mvsa_single", artifacts=tmp_path / "a", root=make_mvsa(rows), lists=lists, **options)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "datasets" / "mvsa_single"


@pytest.mark.parametrize("inside", ["parent", "itself"])
def test_both_layouts_are_found_in_a_parent_and_by_themselves(tmp_path: Path, inside: str) -> None:
    clmlf, fair = write_clmlf(tmp_path / "clmlf"), write_fair(tmp_path / "fair")
    if inside == "parent":
        found = {lists.protocol: lists for lists in find_lists(tmp_path)}
    else:
        found = {lists.protocol: lists for place in (clmlf, fair) for lists in find_lists(place)}
    assert set(found) == {"clmlf", "fair"}
    assert found["clmlf"].folds[0]["val"] == tuple(IDS[40:50])
    assert list(found["fair"].folds) == [1, 2, 3]
    assert found["clmlf"].labels["1"] == found["fair"].labels["1"] == "neutral"


def test_lists_are_kept_as_given_and_stay_without_the_option(
    with_lists: Callable[..., Card], folder: Path, tmp_path: Path
) -> None:
    write_clmlf(tmp_path / "lists" / "clmlf")
    write_fair(tmp_path / "lists" / "fair")
    card = with_lists(tmp_path / "lists")
    assert {"fair", "clmlf"} < set(available_protocols(folder))
    assert (card.protocols["fair"]["k"], card.protocols["clmlf"]["k"]) == (3, 0)
    assert card.protocols["clmlf"]["lists"] == {
        "missing": 0, "unlabelled": 0, "unlisted": 0, "differing": 0, "compared": 60,
    }  # fmt: skip
    assert read_split(folder, protocol="clmlf", parts=("test",))["test"] == tuple(PARTS["test"])
    assert read_split(folder, protocol="fair", fold=2, parts=("test",))["test"] == tuple(IDS[20:40])
    before = (folder / "card.json").read_bytes()
    assert with_lists(None) == card
    assert (folder / "card.json").read_bytes() == before


def test_the_digest_is_of_the_ids_alone(with_lists: Callable[..., Card], folder: Path, tmp_path: Path) -> None:
    digest = with_lists(write_clmlf(tmp_path / "one" / "clmlf")).protocols["clmlf"]["digest"]
    backwards = {name: ids[::-1] for name, ids in PARTS.items()}
    assert with_lists(write_clmlf(tmp_path / "two" / "clmlf", backwards)).protocols["clmlf"]["digest"] == digest
    moved = {"train": IDS[:39], "dev": IDS[39:50], "test": IDS[50:]}
    assert with_lists(write_clmlf(tmp_path / "three" / "clmlf", moved)).protocols["clmlf"]["digest"] != digest


def test_ids_that_are_not_here_are_refused_by_name_until_allowed_and_then_counted(
    with_lists: Callable[..., Card], folder: Path, tmp_path: Path
) -> None:
    lists, lacking = write_clmlf(tmp_path / "clmlf"), ("3", "52")
    with pytest.raises(DataError, match=r"clmlf: .* found 2 of 60 that the manifest lacks: 3, 52\. .*--allow-missing"):
        with_lists(lists, lacking=lacking)
    assert "clmlf" not in read_card(folder).protocols  # everything else is written
    card = with_lists(lists, lacking=lacking, allow_missing=True)
    assert card.protocols["clmlf"]["missing"] == card.protocols["clmlf"]["lists"]["missing"] == 2
    facts = read_split_facts(folder, protocol="clmlf")
    assert (facts.missing, facts.parts) == (2, {"train": 39, "val": 10, "test": 9})
    assert "2 listed ids are not in the manifest and take no part: 3, 52" in card.problems[0]["what"]
    assert with_lists(None, lacking=lacking).protocols["clmlf"]["missing"] == 2
    with pytest.raises(ConfigError, match="--allow-missing: expected --lists DIR"):
        with_lists(None, allow_missing=True)


def test_pairs_withdrawn_later_are_missing_too(with_lists: Callable[..., Card], folder: Path, tmp_path: Path) -> None:
    with_lists(write_clmlf(tmp_path / "clmlf"))
    card = with_lists(None, lacking=("7",))
    assert "found 1 of 60 that the manifest lacks: 7" in card.protocols["clmlf"]["unusable"]
    with pytest.raises(DataError, match="manifest lacks: 7"):
        read_split(folder, protocol="clmlf", parts=("train",))


def test_other_labels_and_unlisted_pairs_are_counted_and_said(
    with_lists: Callable[..., Card], folder: Path, tmp_path: Path
) -> None:
    lists = write_clmlf(tmp_path / "clmlf", {"train": IDS[:40], "dev": IDS[40:50], "test": IDS[50:57]})
    path = lists / "labels.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("\n4\t1\n", "\n4\tnegative\n"), encoding="utf-8")
    card = with_lists(lists)
    check = check_lists(read_lists(folder, "clmlf"), read_manifest(folder), read_labels(folder))
    assert (check.differing, check.unlisted, check.n_compared) == (("4",), ("57", "58", "59"), 57)
    said = " ".join(problem["what"] for problem in card.problems)
    assert "1 of 57 published labels are not those of this rule: 4" in said
    assert "3 labelled pairs stand in no list" in said
    assert "57 ids in a fold, published were 4,511 or 17,024" in said


def test_pairs_without_a_label_under_the_rule_take_no_part(
    with_lists: Callable[..., Card], folder: Path, tmp_path: Path, make_mvsa: Callable[..., Path]
) -> None:
    with_lists(write_clmlf(tmp_path / "clmlf"))
    make_mvsa(ROWS | {"0": "positive,negative"})
    card = prepare("mvsa_single", artifacts=tmp_path / "a")
    assert card.protocols["clmlf"]["lists"]["unlabelled"] == 1
    assert len(read_split(folder, protocol="clmlf", parts=("train",))["train"]) == 39


def break_lists(folder: Path, how: str) -> None:
    train, dev, test = (folder / f"{name}.txt" for name in ("train", "dev", "test"))
    if how == "twice":
        write_ids(dev, [*PARTS["dev"], "41"])
    elif how == "overlap":
        write_ids(test, [*PARTS["test"], "0", "1"])
    elif how == "empty":
        test.write_text("\n", encoding="utf-8")
    elif how == "gone":
        test.unlink()
    elif how == "bytes":
        train.write_bytes(b"\xff\xfe\xff")
    elif how == "labels":
        (folder / "labels.tsv").write_text("id\tlabel\n0\t7\n", encoding="utf-8")
    elif how == "class":
        write_ids(test, [id_ for id_ in PARTS["test"] if int(id_) % 3])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("twice", r"dev\.txt: expected every id once, found 1 more than once: 41\. Mend it"),
        ("overlap", r"test\.txt: .* no other part, found 2 that train\.txt has too: 0, 1\. Mend"),
        ("empty", r"test\.txt: expected ids, one a line, found none"),
        ("gone", r"test\.txt: not there\. .* Get the missing one"),
        ("bytes", r"train\.txt: expected ids in UTF-8"),
        ("labels", r"labels\.tsv line 2: expected an id and one of 0, 1, 2, positive.* found '0\\t7'"),
        ("class", r"protocol clmlf, test: expected pairs of every class, found none of positive"),
    ],
)
def test_bad_lists_are_refused_with_file_and_ids(
    with_lists: Callable[..., Card], folder: Path, tmp_path: Path, how: str, message: str
) -> None:
    lists = write_clmlf(tmp_path / "clmlf")
    break_lists(lists, how)
    with pytest.raises(DataError, match=message):
        with_lists(lists)
    assert not (folder / "lists").exists()


def test_an_id_tested_in_two_folds_is_refused(tmp_path: Path) -> None:
    write_fair(tmp_path / "fair")
    write_ids(tmp_path / "fair" / "test_2.txt", ["5", *IDS[20:40]])
    write_ids(tmp_path / "fair" / "val_2.txt", ["6"])
    write_ids(tmp_path / "fair" / "train_2.txt", ["7"])
    with pytest.raises(DataError, match="found 1 of fold 2 that fold 1 tests too: 5"):
        find_lists(tmp_path)


def test_lists_that_only_look_like_published_ones_do_not_get_their_name(tmp_path: Path) -> None:
    lists = write_clmlf(tmp_path / "mine")
    with pytest.raises(DataError, match="named like those of clmlf, which has 4,511 or 17,024 ids; found 60"):
        find_lists(lists)


def test_a_fold_that_lacks_is_refused(tmp_path: Path) -> None:
    write_fair(tmp_path)
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}_2.txt").unlink()
    with pytest.raises(DataError, match="expected folds 1 to 3, found 1, 3"):
        find_lists(tmp_path)


def test_a_folder_without_lists_names_the_layouts(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            DataError, match=r"--lists .*: expected published lists, clmlf/\{train,dev,test\}\.txt or fair"
        ):
            find_lists(place)
