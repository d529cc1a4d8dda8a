"""`sentifuse explain`: why a trained head answered as it did, pair by pair, as figures, one page and JSON."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.fuse.explain.explanation import PairExplanation

EXAMPLE = "Example: sentifuse explain --errors 12 --split test --out errors"


def explain(
    *,
    run: options.Run = None,
    ids: Annotated[str | None, typer.Option("--ids", help="Pairs by id, as 12,4711; of any part.")] = None,
    errors: Annotated[
        int | None, typer.Option("--errors", help="Instead: this many errors of --split, the most confident first.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="test, val or train.", show_default="test with --errors, any with --ids"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files.", show_default="`explain` in the run")
    ] = None,
    device: options.Device = "auto",
    reader: options.Reader = "mmap",
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Regions, words, gates and weights of single pairs: a PNG each, one HTML page, and JSON with the very numbers."""
    from sentifuse.commands.state import run_or_last
    from sentifuse.fuse.explain.write import check_out

    output = Output(as_json=as_json)
    if (ids is None) == (errors is None):
        raise ConfigError(f"expected --ids or --errors, found {'none' if ids is None else 'both'}. {EXAMPLE}")
    directory, why = run_or_last(artifacts, run)
    chosen = options.split_names(ids)
    part = split or "test"
    wanted = f"the {errors} most confident errors of the {part} part" if ids is None else f"{len(chosen)} by id"
    folder = out or directory / "explain" / (f"errors-{part}-{errors}" if errors is not None else _name(chosen))
    check_out(folder)
    output.note(f"explaining pairs ({wanted}) by {directory.name} ({why})")
    from sentifuse.fuse.explain.errors import explain_errors
    from sentifuse.fuse.explain.explain import explain_pairs

    if errors is not None:
        found = explain_errors(directory, errors, split=part, artifacts=artifacts, device=device, reader=reader)
    else:
        found = explain_pairs(directory, chosen, split=split, artifacts=artifacts, device=device, reader=reader)
    looked = _looks(found, [part] if errors is not None else [])
    document, lines = _result(found, directory, folder, looked)
    output.result(document, lines)


def _result(
    found: Sequence["PairExplanation"], run: Path, folder: Path, looked: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Write the files; what a program and what a person is told."""
    from sentifuse.fuse.explain.write import write_explanations

    document: dict[str, Any] = {"run": str(run), "pairs": [one.to_json() for one in found], "files": {}}
    if not found:
        return document, ["no error: every answer of this part is right", *looked]
    title = f"{found[0].head} on {found[0].dataset}: {len(found)} {'pair' if len(found) == 1 else 'pairs'} explained"
    files: Mapping[str, Any] = write_explanations(folder, found, title=title, about=looked)
    rows = [
        [one.id, one.part or "none", one.label or "none", one.predicted, one.confidence, _shown(one)] for one in found
    ]
    lines = [
        *table(["id", "part", "label", "said", "p", "shown"], rows),
        "",
        *looked,
        f"files: {files['html']}, {files['json']} and {len(files['png'])} PNG beside them",
    ]
    return document | {"files": files}, lines


def _shown(explanation: "PairExplanation") -> str:
    """What there is to look at in a pair's figure."""
    reasons = explanation.reasons
    shown = {
        "regions": reasons.region_weights or reasons.alignment,
        "words": reasons.words or reasons.alignment,
        "voices": reasons.voices,
        "weights": reasons.quantities,
    }
    names = ", ".join(name for name, found in shown.items() if found)
    return names or "probabilities alone"


def _looks(found: Sequence["PairExplanation"], parts: Sequence[str]) -> list[str]:
    """A sentence for each part that was opened."""
    counts = {one.part: one.part_opened for one in found if one.part}
    return [
        f"the {part} part was opened {_times(counts.get(part))} for this run (counted in run.json)"
        for part in dict.fromkeys([*parts, *counts])
    ]


def _times(count: int | None) -> str:
    return "once more" if count is None else "once" if count == 1 else f"{count:,} times"


def _name(ids: Sequence[str]) -> str:
    """A folder's name that the same pairs have again."""
    return f"ids-{sha256(','.join(ids).encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
