"""`sentifuse data`: prepare a dataset, list what is prepared, audit what is odd."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.data.audit import Audit
    from sentifuse.data.card import Card
    from sentifuse.data.source import TableOptions

app = typer.Typer(help="Prepare datasets: what the inputs are, their labels and splits.", no_args_is_help=True)

PROBLEMS_SHOWN = 10
NAMES_SHOWN = 5
SCOPES = ("all", "labelled")
KINDS = ("group", "text", "image")

Column = Annotated[str | None, typer.Option(help="Name of that column.")]


@app.command(
    "prepare",
    epilog="Examples: sentifuse data prepare mvsa_single --root MVSA_Single · "
    "sentifuse data prepare mvsa_single --lists splits --allow-missing · "
    "sentifuse data prepare pairs --name shop --table pairs.csv --root photos",
)
def prepare_command(
    name: Annotated[str, typer.Argument(help="mvsa_single, mvsa_multiple, tumemo, t4sa, sample, or pairs (your own).")],
    *,
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset (for `pairs`: of its images).")] = None,
    rule: options.Rule = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the texts.", show_default="gb18030 for MVSA, else utf-8")
    ] = None,
    lists: Annotated[
        Path | None, typer.Option(help="Folder with published split lists: clmlf/, fair/, or one of them itself.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="With --lists: they may name ids that are not here.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(help="k of the protocols folds and grouped-folds.", show_default="10")
    ] = None,
    dataset_name: Annotated[str | None, typer.Option("--name", help="pairs: name of the new dataset.")] = None,
    table_file: Annotated[
        Path | None, typer.Option("--table", help="pairs: CSV, TSV, JSONL or Parquet file, one pair a row.")
    ] = None,
    id_column: Column = None,
    image_column: Column = None,
    text_column: Column = None,
    label_column: Column = None,
    text_label_column: Column = None,
    image_label_column: Column = None,
    split_column: Column = None,
    classes: Annotated[str | None, typer.Option(help="pairs: class names in order, separated by commas.")] = None,
    max_failures: options.MaxFailures = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Read a dataset into manifest, annotations, labels, near-duplicates and splits; features are never touched."""
    from sentifuse.data.prepare import prepare

    output = Output(as_json=as_json)
    columns = {
        "id_column": id_column,
        "image_column": image_column,
        "text_column": text_column,
        "label_column": label_column,
        "text_label_column": text_label_column,
        "image_label_column": image_label_column,
        "split_column": split_column,
    }
    named = {option: column for option, column in columns.items() if column is not None}
    with (
        output.counter("reading and hashing files", "pairs") as progress,
        output.counter("comparing pictures", "images") as hash_progress,
    ):
        card = prepare(
            dataset_name or name,
            artifacts=artifacts,
            reader=name if dataset_name else None,
            root=root,
            rule=rule,
            seed=seed,
            encoding=encoding,
            table=_own_table(name, dataset_name, table_file, root, named, classes),
            lists=lists,
            allow_missing=allow_missing,
            folds=folds,
            max_failures=max_failures,
            progress=progress,
            hash_progress=hash_progress,
        )
    output.result(card.to_json(), card_lines(card))
    output.note(f"next: sentifuse extract --dataset {card.name}", style="dim")


@app.command("list", epilog="Example: sentifuse data list")
def list_command(
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """The datasets that are prepared."""
    from sentifuse.data.catalog import list_datasets

    cards = list_datasets(artifacts)
    rows = [[c.name, c.reader, c.counts["pairs"], c.counts["labelled"], c.rule, c.protocol] for c in cards]
    lines = table(["dataset", "reader", "pairs", "labelled", "rule", "protocol"], rows)
    if not cards:
        lines = [f"no dataset is prepared in {artifacts}; type: sentifuse data prepare NAME --root FOLDER"]
    Output(as_json=as_json).result({"datasets": [card.to_json() for card in cards]}, lines)


@app.command("audit", epilog="Example: sentifuse data audit mvsa_single")
def audit_command(
    name: Annotated[str, typer.Argument(help="A prepared dataset.")],
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """What is odd: missing, unreadable, duplicate, conflicting; encodings; counts beside the published ones."""
    from sentifuse.data.audit import audit
    from sentifuse.data.prepare import dataset_dir

    output = Output(as_json=as_json)
    folder = dataset_dir(artifacts, name)
    with output.counter(f"decoding the images of {name}", "images") as progress:
        found = audit(folder, progress=progress)
    output.result(found.to_json(), audit_lines(found))


def _own_table(
    name: str,
    dataset_name: str | None,
    table_file: Path | None,
    root: Path | None,
    columns: dict[str, str],
    classes: str | None,
) -> "TableOptions | None":
    """The table of `data prepare pairs`; refuses its options elsewhere."""
    if name != "pairs":
        if dataset_name or table_file or columns or classes:
            raise ConfigError(
                f"data prepare {name}: --name, --table, --classes and column options belong to a table of your own. "
                "Type: sentifuse data prepare pairs --name NAME --table FILE --root FOLDER"
            )
        return None
    if dataset_name is None or table_file is None:
        raise ConfigError(
            "data prepare pairs: --name NAME (of the new dataset) and --table FILE (CSV, TSV, JSONL or Parquet) are "
            "needed"
        )
    from sentifuse.data.source import TableOptions

    names = tuple(word.strip() for word in classes.split(",")) if classes else None
    return TableOptions(path=table_file, root=root, classes=names, **columns)


def card_lines(card: "Card") -> list[str]:
    """A dataset's card for a person."""
    counts = card.counts
    unusable = {name: entry["unusable"] for name, entry in card.protocols.items() if "unusable" in entry}
    usable = {name: entry for name, entry in card.protocols.items() if name not in unusable}
    return [
        f"{card.name}: {counts['pairs']:,} pairs from {card.root}",
        f"  images: {_listed(counts['image_status'])}",
        f"  texts:  {_listed(counts['text_status'])} (read as {card.encoding})",
        f"  labels: {counts['labelled']:,} by rule {card.rule}: {_listed(counts['classes'])}",
        f"  without label: {_listed(counts['removed'])}",
        f"  split:  {card.protocol}, seed {card.seed}: {_listed(counts.get('split', {}))}",
        f"  protocols: {', '.join(_protocol(name, entry) for name, entry in usable.items())}",
        *(f"  protocol {name} cannot be used: {reason}" for name, reason in unusable.items()),
        *(f"  note: {problem['where']}: {problem['what']}" for problem in card.problems[:PROBLEMS_SHOWN]),
        *_more(len(card.problems) - PROBLEMS_SHOWN, f"all of them in card.json of {card.name}"),
        *(f"  published: {name}: {_listed(published)}" for name, published in card.published.items()),
    ]


def audit_lines(audit: "Audit") -> list[str]:
    """Findings for a person: a count each, the first few by name; --json has them all."""
    named = {
        "missing images": audit.missing_images,
        "missing texts": audit.missing_texts,
        "unreadable images": tuple(f"{row_id} ({why})" for row_id, why in audit.unreadable_images.items()),
        "undecodable texts": tuple(f"{row_id} ({why})" for row_id, why in audit.undecodable_texts.items()),
        "images changed since prepare": audit.changed_images,
        "empty texts": audit.empty_texts,
        "texts without a word of their own": audit.bare_texts,
        "texts with control characters": audit.control_texts,
        "groups of equal image files": tuple("=".join(group) for group in audit.duplicate_images),
        "groups of equal texts": tuple("=".join(group) for group in audit.duplicate_texts),
        **{f"without label: {reason}": ids for reason, ids in audit.removed.items()},
    }
    rows = [[what, len(ids), _first(ids)] for what, ids in named.items()]
    return [
        f"{audit.name}: {audit.pairs:,} pairs, rule {audit.rule}: {_listed(audit.classes)}",
        f"usable (labelled, image and text readable): {_listed(audit.usable)}",
        f"text encodings: {_listed(audit.encodings)}; {audit.non_ascii_texts:,} texts are not ASCII",
        *table(["finding", "n", "the first"], rows),
        *duplicate_lines(audit),
        *(f"published: {name}: {_listed(published)}" for name, published in audit.published.items()),
        *(f"note: {problem['where']}: {problem['what']}" for problem in audit.problems[:PROBLEMS_SHOWN]),
        *_more(len(audit.problems) - PROBLEMS_SHOWN, "all of them with --json"),
    ]


def duplicate_lines(audit: "Audit") -> list[str]:
    """Groups of near-duplicates, and the leak of every prepared split."""
    if audit.n_hashed == 0:
        about = "no image could be compared: groups are by text alone"
    else:
        about = f"{audit.n_hashed:,} of {audit.pairs:,} images could be compared"
    rows = [
        [what, *(found[scope][name] for scope in SCOPES for name in ("groups", "members", "largest"))]
        for what, found in audit.groups.items()
    ]
    heads = [f"{scope}: {name}" for scope in SCOPES for name in ("groups", "members", "largest")]
    by_split: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in audit.leaks:
        by_split.setdefault((row["split"], row["part"]), []).append(row)
    splits = [
        [split, part, len(rows), sum(row["n"] for row in rows), *(_shares(rows, kind) for kind in KINDS)]
        for (split, part), rows in by_split.items()
    ]
    mean = audit.random_leak
    return [
        f"near-duplicates: {audit.components:,} components; {about}",
        *table(["same", *heads], rows),
        "leak: pairs of a part that have a near-duplicate in training",
        *table(["split", "part", "folds", "n", "either", "text", "image"], splits),
        *(
            f"random 8:1:1 over seeds 0 to {audit.random_seeds - 1}, test part: "
            f"{mean[kind]['mean']:.1%} ± {mean[kind]['sd']:.1%} {title}"
            for kind, title in (("group", "either"), ("text", "text"), ("image", "image"))
            if mean
        ),
    ]


def _shares(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    """How many pairs leak and their share; of several folds the mean share and its range."""
    n = sum(row[kind] for row in rows)
    shares = [row[kind] / max(1, row["n"]) for row in rows]
    spread = f", {min(shares):.1%} to {max(shares):.1%}" if len(rows) > 1 else ""
    return f"{n:,} ({sum(shares) / len(shares):.1%}{spread})"


def _protocol(name: str, entry: Mapping[str, Any]) -> str:
    folds = f" ({entry['k']} folds)" if entry["k"] else ""
    missing = f" ({entry['missing']:,} listed ids not here)" if entry["missing"] else ""
    return f"{name}{folds}{missing} {entry['digest'][:12]}"


def _first(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:NAMES_SHOWN])
    return f"{shown}, …" if len(ids) > NAMES_SHOWN else shown


def _more(count: int, where: str) -> list[str]:
    return [f"  … and {count:,} more notes, {where}"] if count > 0 else []


def _listed(counts: Any) -> str:
    if not isinstance(counts, Mapping):
        return str(counts)
    return ", ".join(f"{value:,} {key}" for key, value in counts.items() if isinstance(value, int)) or "none"
