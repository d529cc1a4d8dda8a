"""Prepare: from a source to manifest, annotations, labels, groups, splits and card, all of it again at no cost.

Hashes files and pictures; judges neither (the audit does). Nothing of a source is dropped: every pair gets a row.
"""

import platform
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import pyarrow

from sentifuse import ConfigError, DataError, __version__
from sentifuse.data import files
from sentifuse.data.card import FILE_NAME as CARD_NAME
from sentifuse.data.card import Card, read_card, write_card
from sentifuse.data.groups import Groups, ensure_groups
from sentifuse.data.labels import RULES, Labels, compute_labels, write_annotations
from sentifuse.data.manifest import FILE_NAME as MANIFEST_NAME
from sentifuse.data.manifest import (
    MISSING,
    OK,
    WITHDRAWN,
    Manifest,
    merge_manifest,
    read_manifest,
    write_manifest,
)
from sentifuse.data.protocols import DEFAULT_FOLDS, MIN_FOLDS, PUBLISHED, missing_class
from sentifuse.data.published import (
    PublishedLists,
    check_lists,
    find_lists,
    list_problems,
    published_splits,
    read_lists,
    refusal,
    write_lists,
)
from sentifuse.data.readers import READERS, load_reader
from sentifuse.data.register import register_pairs
from sentifuse.data.source import SPLITS, Problem, ReadRequest, Source, TableOptions
from sentifuse.data.splits import available_protocols, describe_split, write_given, write_split

DATASETS_FOLDER = "datasets"
NAME_PATTERN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
MIN_FAILURES = 10  # below this number of bad rows the default `max_failures` never stops
FAILURE_SHARE = 0.05


def dataset_dir(artifacts: Path, name: str) -> Path:
    """The folder of one prepared dataset.

    >>> dataset_dir(Path("artifacts"), "sample").as_posix()
    'artifacts/datasets/sample'
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(f"dataset name: expected letters, digits, '_', '-', '.', found {name!r}")
    return artifacts / DATASETS_FOLDER / name


def prepare(
    name: str,
    *,
    artifacts: Path,
    reader: str | None = None,
    root: Path | None = None,
    rule: str | None = None,
    seed: int = 0,
    encoding: str | None = None,
    table: TableOptions | None = None,
    lists: Path | None = None,
    allow_missing: bool = False,
    folds: int | None = None,
    max_failures: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    hash_progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Read a dataset and write what the other rooms need, in `artifacts/datasets/<name>/`.

    A second call writes the same bytes again (that is, nothing); new pairs are appended, changed ones get new digests,
    pairs gone from the source become "withdrawn".

    Parameters
    ----------
    reader
        A name of `READERS`; None: the dataset's own name, "pairs" when a table is given, or what read it last time.
    root, table
        Where the source lies; None takes what an earlier call was given (with its encoding).
    rule, encoding
        None takes the reader's default.
    lists
        Folder with published split lists, kept with the dataset; None keeps those of an earlier call.
    allow_missing
        Whether lists may name ids that the manifest lacks; those are counted and take no part.
    folds
        k of the protocols "folds" and "grouped-folds"; None: as before, else 10.
    max_failures
        So many rows may be malformed, have unknown label words, or texts and images that cannot be read; None: 5 % of
        the rows, at least 10. A missing text or image is a status, not a failure.
    progress
        Called with (pairs done, pairs in all).
    hash_progress
        Called with (pictures hashed, pictures to hash) afterwards, if there are new ones.

    Raises
    ------
    ConfigError
        Unknown reader, rule or encoding, a name that cannot be a folder, too few folds.
    DataError
        A source or lists that cannot be used, files that cannot be written; or, after everything else was written,
        lists of ids that are not there, or too many failures.
    """
    folder = dataset_dir(artifacts, name).resolve()
    if rule is not None and rule not in RULES:
        raise ConfigError.unknown("label rule", rule, RULES, where="--rule")
    if folds is not None and folds < MIN_FOLDS:
        raise ConfigError(
            f"--folds: expected {MIN_FOLDS} or more (a part each for test, validation, training), found {folds}"
        )
    if allow_missing and lists is None:
        raise ConfigError("--allow-missing: expected --lists DIR beside it, found none. It is about ids in those lists")
    published = [] if lists is None else find_lists(lists.expanduser().resolve())
    before = _card_before(folder)
    if folds is None:
        folds = before.folds if before else DEFAULT_FOLDS
    reader_name = _reader_name(name, reader, table, before)
    request = _request(folder, before, reader_name, root=root, encoding=encoding, table=table)
    source = load_reader(reader_name).read(request)
    rule = source.rule if rule is None else rule

    old = read_manifest(folder) if files.is_file(folder / MANIFEST_NAME) else None
    manifest = merge_manifest(old, Manifest(source.root, register_pairs(source, progress)))
    write_manifest(folder, manifest)
    write_annotations(folder, source.annotations)
    labels = compute_labels(folder, rule, source.classes)
    write_given(folder, {pair.id: pair.split for pair in source.pairs if pair.split})
    refused = _keep_lists(folder, published, manifest, labels, allow_missing=allow_missing)
    groups = ensure_groups(folder, hash_progress, reader=reader_name)
    protocols, notes = _write_splits(folder, labels, manifest, groups, seed=seed, k=folds)

    bad_pairs = _unreadable_pairs(manifest)
    failures = [problem for problem in source.problems if problem.is_failure] + bad_pairs
    card = Card(
        name=name,
        reader=reader_name,
        source=str(source.path),
        root=str(source.root),
        encoding=source.encoding,
        classes=source.classes,
        rule=rule,
        protocol=source.protocol,
        seed=seed,
        counts=count_pairs(manifest, labels)
        | {"split": _default_parts(protocols, source.protocol), "failures": len(failures)},
        problems=tuple(
            problem.to_json() for problem in (*source.problems, *bad_pairs, *_split_problems(source, labels), *notes)
        ),
        published=source.published,
        options=_options(request),
        versions={
            "sentifuse": __version__,
            "python": platform.python_version(),
            "pillow": PIL.__version__,
            "pyarrow": pyarrow.__version__,
        },
        folds=folds,
        protocols=protocols,
    )
    write_card(folder, card)
    if refused:
        raise DataError(f"{'; '.join(refused)}. Everything else is written, lists given before are kept")
    _refuse_many_failures(folder, failures, len(source.pairs), max_failures)
    return card


def _keep_lists(
    folder: Path, published: Sequence[PublishedLists], manifest: Manifest, labels: Labels, *, allow_missing: bool
) -> list[str]:
    """Keep the lists that fit the manifest; why the others do not."""
    refused = []
    for found in published:
        lists = replace(found, allows_missing=allow_missing)
        reason = _reason_against(lists, manifest, labels)
        if reason:
            refused.append(reason)
        else:
            write_lists(folder, lists)
    return refused


def _write_splits(
    folder: Path, labels: Labels, manifest: Manifest, groups: Groups, *, seed: int, k: int
) -> tuple[dict[str, Any], list[Problem]]:
    """The splits of all protocols there are, as the card describes them; and what is odd about them."""
    protocols: dict[str, Any] = {}
    problems: list[Problem] = []
    for protocol in available_protocols(folder):
        entry: dict[str, Any] = {}
        unusable = ""
        if protocol in PUBLISHED:
            lists = read_lists(folder, protocol)
            check = check_lists(lists, manifest, labels)
            entry = {"source": lists.source, "lists": check.to_json()}
            problems += list_problems(lists, check)
            unusable = _reason_against(lists, manifest, labels)
        try:
            if not unusable:
                path = write_split(folder, labels, protocol=protocol, seed=seed, k=k, groups=groups)
                entry |= describe_split(folder, path)
        except ConfigError as error:  # a class too small for so many folds
            unusable = str(error)
        protocols[protocol] = entry | ({"unusable": unusable} if unusable else {})
    return protocols, problems


def _reason_against(lists: PublishedLists, manifest: Manifest, labels: Labels) -> str:
    """Why these lists cannot split these pairs; "" when they can."""
    reason = refusal(lists, check_lists(lists, manifest, labels))
    if not reason:
        try:
            published_splits(lists, labels.by_id())
        except DataError as error:  # a part without pairs of a class
            return str(error)
    return reason


def _default_parts(protocols: Mapping[str, Any], protocol: str) -> dict[str, int]:
    parts = protocols[protocol]["folds"][0]["parts"]
    return {part: parts[part] for part in SPLITS}


def count_pairs(manifest: Manifest, labels: Labels) -> dict[str, Any]:
    """Counts of a card; every group of them adds up to the number of pairs."""
    by_status = {
        side: dict(sorted(Counter(getattr(pair, side).split(":")[0] for pair in manifest.pairs).items()))
        for side in ("image_status", "text_status")
    }
    return {
        "pairs": len(manifest),
        **by_status,
        "labelled": len(labels.by_id()),
        "classes": labels.class_counts(),
        "removed": _grouped(labels.reason_counts()),
    }


def _grouped(reasons: Mapping[str, int]) -> dict[str, int]:
    # "malformed row: …" and "unknown label word 'x'" differ by row; the labels file keeps them in full.
    groups: Counter[str] = Counter()
    for reason, count in reasons.items():
        groups[re.sub(r":.*| '.*", "", reason, flags=re.DOTALL)] += count
    return dict(sorted(groups.items()))


def _reader_name(name: str, reader: str | None, table: TableOptions | None, before: Card | None) -> str:
    known = {one: one for one in READERS if one != "pairs"}
    if reader is None:
        reader = "pairs" if table is not None else known.get(name) or (before.reader if before else name)
    if reader not in READERS or (reader == "pairs" and table is None and before is None):
        names = ConfigError.unknown("dataset", name, known)
        own = "NAME" if name in READERS else name
        raise ConfigError(f"{names}. For your own table: sentifuse data prepare pairs --name {own} --table FILE")
    if reader == "pairs" and name in READERS:
        raise ConfigError(
            f"data prepare pairs: expected a name of your own, found {name!r}. Name the dataset: --name NAME"
        )
    return reader


def _request(
    folder: Path,
    before: Card | None,
    reader: str,
    *,
    root: Path | None,
    encoding: str | None,
    table: TableOptions | None,
) -> ReadRequest:
    """What the reader gets: the options of this call, and from an earlier one where the source lies."""
    kept = before.options if before is not None and before.reader == reader else {}
    if table is None and (root is None or kept.get("table")):
        table = TableOptions.from_json(kept["table"]) if kept.get("table") else None
        encoding = encoding or kept.get("encoding")
        root = Path(kept["root"]) if root is None and kept.get("root") else root
    if table is not None and root is not None:
        table = replace(table, root=root)
    return ReadRequest(dataset_dir=folder, root=root, encoding=encoding, table=table)


def _options(request: ReadRequest) -> dict[str, Any]:
    return {
        "root": None if request.root is None else str(request.root.expanduser().resolve()),
        "encoding": request.encoding,
        "table": None if request.table is None else request.table.to_json(),
    }


def _card_before(folder: Path) -> Card | None:
    try:
        return read_card(folder) if files.is_file(folder / CARD_NAME) else None
    except DataError:  # a damaged card, or one of another version, is about to be written anew
        return None


def _unreadable_pairs(manifest: Manifest) -> list[Problem]:
    sides = [
        (pair, side, status)
        for pair in manifest.pairs
        for side, status in (("text", pair.text_status), ("image", pair.image_status))
    ]
    return [
        Problem(f"{side} of {pair.id}", status, pair.id, is_failure=True)
        for pair, side, status in sides
        if status not in (OK, MISSING, WITHDRAWN)
    ]


def _split_problems(source: Source, labels: Labels) -> list[Problem]:
    problems = []
    empty = [name for name, count in labels.class_counts().items() if not count]
    if empty:
        problems.append(Problem("labels", f"classes without any labelled pair: {', '.join(empty)}"))
    if source.protocol == "given":
        parts = {pair.id: pair.split for pair in source.pairs}
        left_out = [id_ for id_ in labels.by_id() if not parts.get(id_)]
        if left_out:
            named = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
            problems.append(Problem("split", f"{len(left_out)} labelled pairs have no part and take no part: {named}"))
        labelled = {id_: part for id_ in labels.by_id() if (part := parts.get(id_))}
        lacking = missing_class(labelled, labels.by_id(), [part for part in SPLITS if part in labelled.values()])
        if lacking is not None:
            part, label = lacking
            problems.append(
                Problem("split", f"no pair of {label} in the {part} part: numbers of this split leave the class out")
            )
        if "val" not in parts.values():
            problems.append(Problem("split", "no validation part given: a tenth of the training part serves as one"))
    else:
        few = [f"{name} ({count})" for name, count in labels.class_counts().items() if 0 < count < MIN_FAILURES]
        if few:
            problems.append(
                Problem("split", f"classes too small to be in val and test (fewer than 10 pairs): {', '.join(few)}")
            )
    return problems


def _refuse_many_failures(folder: Path, failures: Sequence[Problem], n_rows: int, max_failures: int | None) -> None:
    limit = max(MIN_FAILURES, int(FAILURE_SHARE * n_rows)) if max_failures is None else max_failures
    if len(failures) > limit:
        named = "; ".join(f"{one.where}: {one.what}" for one in failures[:3])
        raise DataError(
            f"{folder}: expected at most {limit} bad rows, found {len(failures)} in {n_rows}: {named}; … "
            f"Everything else is written, the bad rows are named in {CARD_NAME}. "
            f"Mend the source, or allow them: --max-failures {len(failures)}"
        )
