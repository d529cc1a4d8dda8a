"""`sentifuse distil`: from what a text teacher says of tweets to a student that looks at their images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse.commands import distil_evaluate, distil_train, options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.crowd.labels.choose import FilterRequest
    from sentifuse.crowd.labels.pseudo_labels import PseudoLabels

app = typer.Typer(
    help="The crowd: label tweets by a text teacher, filter, train a student on their images, cache its features.",
    no_args_is_help=True,
)

Force = Annotated[bool, typer.Option("--force", help="Replace what has this name already.")]
LABEL_EXAMPLE = "Example: sentifuse distil label --dataset mvsa_single --teacher RUN"
FILTER_EXAMPLE = "Example: sentifuse distil filter --positive 0.90 --neutral 0.90 --negative 0.70"


@app.command("label", epilog=LABEL_EXAMPLE)
def label(
    *,
    dataset: options.Dataset = None,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            help="encoder: the cached features of the encoder `teacher`; or a run of your own, folder or name, from "
            "`train --head text_only --target text_label`.",
        ),
    ] = "encoder",
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Of the encoder's features.", show_default="those last extracted"),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of these pseudo-labels.")] = "default",
    device: options.Device = "auto",
    force: Force = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Label every pair that has a text by what a text teacher says of it; no label of a person is used."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.crowd.labels.pseudo_labels import labels_path, write_pseudo_labels
    from sentifuse.data.files import check_writable

    output = Output(as_json=as_json)
    chosen, why = dataset_or_last(artifacts, dataset)
    output.note(f"labelling {chosen} ({why}) by {teacher}")
    path = labels_path(artifacts, chosen, name)
    check_writable(path.parent, hint="Mend the permissions, or name another folder with --artifacts")
    labels = _ask(output, artifacts, chosen, teacher, profile=profile, device=device)
    write_pseudo_labels(artifacts, chosen, name, labels, overwrite=force)
    document = _describe(labels) | {"dataset": chosen, "name": name, "file": str(path)}
    output.result(document, _label_lines(document))
    as_name = "" if name == "default" else f" --labels {name}"
    output.note(f"next: sentifuse distil filter --dataset {chosen}{as_name}", style="dim")


@app.command("filter", epilog=FILTER_EXAMPLE)
def filter_command(
    *,
    dataset: options.Dataset = None,
    labels: Annotated[str, typer.Option("--labels", help="Name of the pseudo-labels to filter.")] = "default",
    positive: Annotated[float, typer.Option("--positive", help="Keep positive ones surer than this, 0 to 1.")] = 0.90,
    neutral: Annotated[float, typer.Option("--neutral", help="The same of neutral ones.")] = 0.90,
    negative: Annotated[float, typer.Option("--negative", help="The same of negative ones.")] = 0.70,
    dedup: Annotated[
        str, typer.Option("--dedup", help="Drop near-duplicate images by hash (perceptual) or cosine, or none.")
    ] = "hash",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Of --dedup: bits of 64 that may differ, or the least cosine.",
            show_default="4 bits; cosine 0.9",
        ),
    ] = None,
    features: Annotated[
        str, typer.Option("--features", help="Cached embeddings that --dedup cosine compares.")
    ] = "context.vector",
    val_share: Annotated[float, typer.Option("--val-share", help="Share of the validation part.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Of the split.")] = 0,
    name: Annotated[str, typer.Option("--name", help="Name of the kept set.")] = "default",
    force: Force = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Keep the images whose pseudo-label is sure, and say what was kept; tweets and near-duplicates share a part."""
    from sentifuse.commands.state import dataset_or_last
    from sentifuse.crowd.labels.choose import FilterRequest
    from sentifuse.crowd.labels.filtering import Thresholds

    output = Output(as_json=as_json)
    chosen, why = dataset_or_last(artifacts, dataset)
    output.note(f"filtering labels {labels} of {chosen} ({why})")
    request = FilterRequest(
        artifacts=artifacts,
        dataset=chosen,
        labels=labels,
        thresholds=Thresholds(negative=negative, neutral=neutral, positive=positive),
        dedup=dedup,
        dedup_threshold=threshold,
        features=features,
        val_share=val_share,
        seed=seed,
    )
    _filter(output, request, name, overwrite=force)
    as_name = "" if name == "default" else f" --kept {name}"
    output.note(f"next: sentifuse distil train --student probe --dataset {chosen}{as_name}", style="dim")


app.command("train", epilog=distil_train.TRAIN_EXAMPLE)(distil_train.train)
app.command("evaluate", epilog=distil_evaluate.EXAMPLE)(distil_evaluate.evaluate)
app.command("features", epilog=distil_train.FEATURES_EXAMPLE)(distil_train.features)


def _ask(
    output: Output, artifacts: Path, dataset: str, teacher: str, *, profile: str | None, device: str
) -> "PseudoLabels":
    from sentifuse import ConfigError
    from sentifuse.crowd.labels.teachers import TEXT_TARGET, label_by_encoder, label_by_run

    if teacher == "encoder":
        return label_by_encoder(artifacts, dataset, profile=profile)
    if profile is not None:
        raise ConfigError("--profile: expected --teacher encoder beside it; a run knows its features. Leave it out")
    run = Path(teacher) if Path(teacher).exists() else artifacts / "runs" / teacher
    labels = label_by_run(artifacts, dataset, run, device=device)
    target = labels.provenance["target"]
    if target != TEXT_TARGET:
        output.note(
            f"the run was trained on {target}, which people gave with the image in view: a teacher of texts is trained "
            f"with --target {TEXT_TARGET}",
            style="warning",
        )
    return labels


def _filter(output: Output, request: "FilterRequest", name: str, *, overwrite: bool) -> None:
    from sentifuse.crowd.labels.choose import choose
    from sentifuse.crowd.labels.filter_pages import report_lines, write_filtered
    from sentifuse.crowd.labels.filter_report import build_report
    from sentifuse.crowd.labels.kept import kept_path
    from sentifuse.data.files import check_writable

    folder = kept_path(request.artifacts, request.dataset, name).parent
    check_writable(folder, hint="Mend the permissions, or name another folder with --artifacts")
    with (
        output.counter("comparing pictures", "images") as progress,
        output.counter("comparing embeddings", "comparisons") as cosine_progress,
    ):
        chosen = choose(
            request,
            progress,
            cosine_progress=cosine_progress,
            warn=lambda line: output.note(line, style="warning"),
        )
    report = build_report(request.artifacts, chosen)
    paths = write_filtered(request, name, chosen, report, overwrite=overwrite)
    named = {what: str(path) for what, path in paths.items()}
    lines = [*report_lines(report), "", *(f"{what}: {path}" for what, path in named.items())]
    output.result(report | {"name": name, "files": named}, lines)


def _describe(labels: "PseudoLabels") -> dict[str, Any]:
    """Counts of the pseudo-labels; labelled + all of without_label = pairs."""
    import numpy as np

    from sentifuse.data.reasons import count_reasons
    from sentifuse.data.source import SENTIMENT

    classes = np.bincount(labels.probabilities.argmax(1), minlength=len(SENTIMENT)).tolist()
    return {
        "pairs": len(labels) + len(labels.left_out),
        "labelled": len(labels),
        "classes": dict(zip(SENTIMENT, classes, strict=True)),
        "mean_confidence": float(labels.probabilities.max(1).mean()),
        "gold_seen": int(labels.gold_seen.sum()),
        "without_label": count_reasons(labels.left_out),
        "digest": labels.digest,
        "provenance": dict(labels.provenance),
    }


def _label_lines(document: dict[str, Any]) -> list[str]:
    from sentifuse.crowd.labels.teachers import describe_teacher

    labelled = document["labelled"]
    rows = [[name, n, f"{n / labelled:.1%}"] for name, n in document["classes"].items()]
    lines = [
        f"{labelled:,} of {document['pairs']:,} pairs labelled by {describe_teacher(document['provenance'])}, mean "
        f"confidence {document['mean_confidence']:.3f}",
        *table(["pseudo-class", "pairs", "share"], rows),
    ]
    lines += [f"no pseudo-label: {reason}: {n:,}" for reason, n in document["without_label"].items()]
    if document["gold_seen"]:
        lines.append(f"{document['gold_seen']:,} pairs are of the teacher's training and validation parts (gold_seen)")
    return [*lines, f"file: {document['file']}"]
