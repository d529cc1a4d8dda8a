"""`sentifuse distil train` and `distil features`: a student from pseudo-labels, and its answers for the fusion."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.crowd.students.features import FeaturesSummary
    from sentifuse.crowd.students.folder import StudentFolder
    from sentifuse.crowd.students.material import Material
    from sentifuse.crowd.students.train import FoldReport

TRAIN_EXAMPLE = "Example: sentifuse distil train --student probe --features context.vector --folds 5"
FEATURES_EXAMPLE = "Example: sentifuse distil features --student NAME --dataset mvsa_single"
TENSORBOARD = "tensorboard"
SHOWN_FAILURES = 20


def train(
    *,
    student: Annotated[
        str, typer.Option("--student", help="probe: a head on cached embeddings; lora, full: a ViT on the images.")
    ] = "probe",
    dataset: options.Dataset = None,
    kept: Annotated[str, typer.Option("--kept", help="Name of the kept set (distil filter).")] = "default",
    label: Annotated[
        str, typer.Option("--label", help="pseudo; or image_label: what people said of the images, for comparison.")
    ] = "pseudo",
    features: Annotated[
        str, typer.Option("--features", help="Of a probe: context.vector, crowd.embedding or clip.image.")
    ] = "context.vector",
    base: Annotated[
        Path | None, typer.Option("--base", help="Of lora and full: folder of a ViT, or a student of kind vit.")
    ] = None,
    preset: Annotated[str, typer.Option(help="default, or paper: as published.")] = "default",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, overrides the preset; may be given several times.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order, folds and --protocol.")] = 0,
    folds: Annotated[
        int, typer.Option("--folds", min=0, help="K more students, each without one fold, for features out of fold.")
    ] = 0,
    validate: Annotated[
        str, typer.Option("--validate", help="Who labels the validation images: teacher, or gold (people).")
    ] = "teacher",
    weights: Annotated[
        str, typer.Option("--weights", help="none, or confidence: an image counts by how sure its teacher is.")
    ] = "none",
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="Only images of the training and validation part of this split, so that its test part stays unseen.",
            show_default="all kept images; with labels by people the dataset's own",
        ),
    ] = None,
    fold: options.Fold = None,
    rule: options.Rule = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the student's folder.", show_default="time, kind, dataset, seed")
    ] = None,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Of lora and full: go on where this was stopped.")] = False,
    log: Annotated[
        str | None, typer.Option("--log", help="tensorboard: curves of lora and full (extra `tensorboard`).")
    ] = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Train a student on images whose labels a text teacher gave; the result is what the encoder `crowd` loads."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.fuse.config import parse_assignments

    output = Output(as_json=as_json)
    if log not in (None, TENSORBOARD):
        raise ConfigError.unknown("log", str(log), (TENSORBOARD,), where="--log")
    if fold is not None and protocol is None:
        raise ConfigError(f"--fold {fold}: expected --protocol beside it, found none. Type: --protocol grouped-folds")
    chosen, why = dataset_or_last(artifacts, dataset)
    overrides = parse_assignments(settings or [])
    output.note(f"training a student ({student}, {preset} preset, seed {seed}) on {label} labels of {chosen} ({why})")
    from sentifuse.crowd.students.material import MaterialRequest
    from sentifuse.crowd.students.train import StudentRequest, train_student

    material = MaterialRequest(
        artifacts=artifacts,
        dataset=chosen,
        label=label,
        kept=kept,
        validate=validate,
        weights=weights,
        protocol=protocol,
        split_seed=seed,
        fold=fold or 0,
        rule=rule,
    )
    request = StudentRequest(
        material=material,
        kind=student,
        features=features,
        base=base,
        preset=preset,
        overrides=overrides,
        seed=seed,
        folds=folds,
        name=name or "",
        device=device,
        resume=resume,
        writes_tensorboard=log == TENSORBOARD,
        command=("sentifuse", *sys.argv[1:]),
    )
    with output.counter("comparing pictures", "images") as hashing:
        done = train_student(
            request,
            progress=_reporter(output),
            hash_progress=hashing,
            announce=lambda found: _announce(output, found),
        )
    output.result({"student": str(done.path), **done.document}, _train_lines(done))
    if problem := done.document["base"].get("problem"):
        output.note(f"`extract` cannot load this student, `distil features` can: {problem}", style="warning")
    out_of_fold = "" if folds else " (of other datasets: this one wants --folds 5)"
    output.note(
        f"next: sentifuse distil features --student {done.path.name} --dataset {chosen}{out_of_fold}", style="dim"
    )


def features(
    *,
    student: Annotated[Path, typer.Option("--student", help="A student folder, or its name.")],
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per forward pass, of lora and full.")] = 16,
    max_failures: options.MaxFailures = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Cache the crowd's features of a dataset, every pair by a student that saw neither it nor its near-duplicates."""
    from sentifuse.commands.state import dataset_or_last, remember
    from sentifuse.crowd.students.features import FeaturesRequest, write_features

    output = Output(as_json=as_json)
    chosen, why = dataset_or_last(artifacts, dataset)
    output.note(f"crowd features of {chosen} ({why}) by student {student}")
    request = FeaturesRequest(
        artifacts=artifacts,
        dataset=chosen,
        student=student,
        device=device,
        batch_rows=batch,
        max_failures=max_failures,
    )
    with (
        output.counter("comparing pictures", "images") as hashing,
        output.counter(f"crowd features of {chosen}", "images") as counted,
    ):
        done = write_features(request, progress=counted, hash_progress=hashing)
    remember(artifacts, dataset=chosen)
    output.result(done.to_json(), _features_lines(done))
    output.note(f"next: sentifuse train --head crowd_linear --dataset {chosen}", style="dim")


def _announce(output: Output, material: "Material") -> None:
    split = material.about.get("split")
    if split is None:
        output.note("split: the kept set's own two parts; no pair of the dataset is left out as a test")
    else:
        fold = f", fold {split['fold']}" if split["fold"] else ""
        output.note(
            f"split {split['protocol']}{fold}, seed {split['seed']}, rule {split['rule']} ({split['digest'][:12]}): "
            "its test part is not learned from"
        )
    for part, counts in material.counts().items():
        shares = ", ".join(f"{n:,} {name}" for name, n in counts.items())
        output.note(f"{part}: {sum(counts.values()):,} images ({shares})")
    if material.left_out:
        output.note(f"{len(material.left_out):,} images left out by name, see student.json", style="warning")
    if material.gold_seen:
        output.note(
            f"{len(material.gold_seen):,} pairs' human labels are known to the teacher or used here: a fusion whose "
            "test part has any of them is refused"
        )
    if outside := material.about.get("gold_seen_outside"):
        output.note(
            f"{outside:,} of them lie in neither part of this split that is learned from: its test part may not be "
            "unseen by the teacher. Give teacher and student one protocol and one seed",
            style="warning",
        )


def _reporter(output: Output) -> Callable[["FoldReport"], None]:
    def report(found: "FoldReport") -> None:
        row = found.row
        who = "" if not found.folds else f"without fold {found.fold}/{found.folds}: " if found.fold else "all pairs: "
        if "resumed_step" in row:
            done = "was finished" if row["is_finished"] else "goes on"
            output.note(f"{who}{done} at step {row['resumed_step']}", style="dim")
            return
        if "val_loss" not in row:  # a line of steps.csv
            output.note(f"{who}step {row['step']}  loss {row['loss']:.4f}  {row['images_per_s']} images/s", style="dim")
            return
        mark = " *" if row["is_best"] else ""
        epochs = f"/{row['epochs']}" if "epochs" in row else ""
        output.note(
            f"{who}epoch {row['epoch']}{epochs}  loss {row['train_loss']:.4f}  validation macro-F1 "
            f"{row['val_macro_f1']:.4f}  accuracy {row['val_accuracy']:.4f}  {row['seconds']:.1f} s{mark}",
            style="dim",
        )

    return report


def _train_lines(done: "StudentFolder") -> list[str]:
    document = done.document
    rows: list[list[Any]] = [["all pairs", *_scores(document["scores"])]]
    rows += [[f"without fold {fold}", *_scores(scores)] for fold, scores in document["fold_scores"].items()]
    from sentifuse.crowd.students.temperature import HIGHEST

    fitted = f"temperature {document['temperature']:.3f}"
    if document["temperature"] > 0.99 * HIGHEST:
        fitted += " (the largest that is tried: the student's shares say next to nothing of how sure it may be)"
    return [
        f"student {done.path}",
        *table(["student", "epoch", "macro-F1", "accuracy", "loss"], rows),
        f"validation against {document['scored_against']}; {fitted}; {document['seconds']:.1f} s",
        f'for a profile: [encoders.crowd] model = {{ path = "{done.path}" }}',
    ]


def _scores(scores: dict[str, Any]) -> list[Any]:
    return [scores["epoch"], *(scores.get(name, "") for name in ("val_macro_f1", "val_accuracy", "val_loss"))]


def _features_lines(done: "FeaturesSummary") -> list[str]:
    statuses = ", ".join(f"{n:,} {name}" for name, n in done.statuses.items())
    rows = [["all pairs" if not fold else f"without fold {fold}", n] for fold, n in done.by_fold.items()]
    lines = [
        *table(["answered by the student of", "pairs"], rows),
        f"{done.pairs:,} pairs: {statuses}; {done.computed:,} computed, {done.pairs - done.computed:,} there already",
    ]
    failed = list(done.quarantined.items())
    if failed:
        lines += [f"{len(failed):,} quarantined by name:", *(f"  {id_}: {why}" for id_, why in failed[:SHOWN_FAILURES])]
    return [*lines, f"feature set {done.directory}"]
