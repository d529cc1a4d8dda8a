"""`sentifuse train`: stage 2, a fusion head on cached features → a run directory."""

import secrets
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

if TYPE_CHECKING:
    from sentifuse.data.splits import SplitFacts
    from sentifuse.fuse.run import RunDirectory
    from sentifuse.fuse.tensorboard import TensorboardLog

EXAMPLE = "Example: sentifuse train --head itin --dataset mvsa_single --seed 0 --set epochs=20"
TENSORBOARD = "tensorboard"


def train(
    *,
    head: Annotated[str, typer.Option("--head", help="A head; `sentifuse heads list` names them.")],
    dataset: options.Dataset = None,
    preset: Annotated[str, typer.Option(help="default: what validation likes best; paper: as published.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed of split and initialisation.")] = 0,
    protocol: options.Protocol = None,
    fold: options.Fold = None,
    rule: options.Rule = None,
    target: Annotated[str, typer.Option(help="label, text_label or image_label.")] = "label",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, overrides the preset; may be given several times.")
    ] = None,
    device: options.Device = "auto",
    reader: options.Reader = "mmap",
    resident: options.Resident = None,
    log: Annotated[
        str | None, typer.Option("--log", help="tensorboard: curves beside history.csv (extra `tensorboard`).")
    ] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Train a head; selection is on validation, and the test part is never read."""
    from sentifuse.commands.state import dataset_or_last, remember
    from sentifuse.fuse.config import parse_assignments
    from sentifuse.fuse.heads import HEADS

    output = Output(as_json=as_json)
    if head not in HEADS:  # before torch is imported: a typing mistake answers at once
        raise ConfigError.unknown("head", head, HEADS, where="--head")
    name, why = dataset_or_last(artifacts, dataset)
    output.note(f"training {head} ({preset} preset, seed {seed}) on {name} ({why})")
    if log not in (None, TENSORBOARD):
        raise ConfigError.unknown("log", str(log), (TENSORBOARD,), where="--log")
    from sentifuse.fuse.loop import EpochReport
    from sentifuse.fuse.train import TrainRequest
    from sentifuse.fuse.train import train as train_head

    request = TrainRequest(
        artifacts=artifacts,
        dataset=name,
        head=head,
        preset=preset,
        seed=seed,
        protocol=protocol,
        fold=fold,
        rule=rule,
        target=target,
        overrides=parse_assignments(settings or []),
        device=device,
        reader=reader,
        resident=resident,
        command=("sentifuse", *sys.argv[1:]),
    )

    def report(epoch: EpochReport) -> None:
        mark = " *" if epoch.is_best else ""
        output.note(
            f"epoch {epoch.epoch:3d}/{epoch.epochs}  loss {epoch.train_loss:.4f}  validation accuracy "
            f"{epoch.val_accuracy:.4f}  loss {epoch.val_loss:.4f}  {epoch.seconds:.1f} s{mark}",
            style="dim",
        )
        if curves is not None:
            curves(epoch)

    def announce(notes: Mapping[str, Any]) -> None:
        output.note("; ".join(f"{name}: {value}" for name, value in notes.items()))

    def report_split(facts: "SplitFacts") -> None:
        for line in leak_lines(facts):
            output.note(line)

    with ExitStack() as stack:
        curves = stack.enter_context(_open_curves(artifacts, head, seed)) if log else None
        run = train_head(request, progress=report, announce=announce, report_split=report_split)
    remember(artifacts, run=run.name)
    if curves is not None:
        output.note(_about_curves(curves, run.name))
    document = run.document
    output.result({"run": str(run.path), **document}, _lines(run))
    output.note("next: sentifuse evaluate --split test", style="dim")


def _open_curves(artifacts: Path, head: str, seed: int) -> "TensorboardLog":
    from sentifuse.fuse.tensorboard import TensorboardLog

    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{head}-s{seed}-{secrets.token_hex(2)}"
    return TensorboardLog(artifacts / TENSORBOARD / name)


def _about_curves(curves: "TensorboardLog", run: str) -> str:
    folder = curves.rename(run)
    if not curves.epochs:
        return f"tensorboard: {folder} is empty: this head is solved, not trained in epochs; see history.csv of the run"
    return f"tensorboard: {curves.epochs} epochs in {folder}. Watch: tensorboard --logdir {folder.parent}"


def leak_lines(facts: "SplitFacts") -> list[str]:
    """What a split is and how much of it leaks, for a person."""
    sizes = ", ".join(f"{n:,} {part}" for part, n in facts.parts.items())
    fold = f", fold {facts.fold} of {facts.k}" if facts.k else ""
    lines = [f"split {facts.protocol}{fold}, seed {facts.seed}, rule {facts.rule}: {sizes} ({facts.digest[:12]})"]
    if facts.missing:
        lines.append(f"{facts.missing:,} listed ids are not here: no figure of this split is the published one")
    for part, leak in facts.leak.items():
        share = leak["group"] / leak["n"] if leak["n"] else 0.0
        lines.append(
            f"leak: {leak['group']:,} of {leak['n']:,} {part} pairs ({share:.1%}) have a near-duplicate in training "
            f"({leak['text']:,} by text, {leak['image']:,} by image)"
        )
    if facts.n_hashed < facts.n_pairs:
        lines.append(f"leak: only {facts.n_hashed:,} of {facts.n_pairs:,} images could be compared")
    return lines


def _lines(run: "RunDirectory") -> list[str]:
    document = run.document
    best, samples = document["best"], document["samples"]
    excluded = {part: len(ids) for part, ids in document["excluded"].items() if ids}
    return [
        f"run {run.path}",
        f"trained on {samples['train']['n']:,} pairs, chosen on {samples['val']['n']:,} "
        f"({', '.join(f'{n:,} of {part} excluded' for part, n in excluded.items()) or 'none excluded'})",
        f"best epoch {best['epoch']}: validation accuracy {best['val_accuracy']:.4f}, loss {best['val_loss']:.4f}; "
        f"{document['timings']['fit_s']:.1f} s",
    ]
