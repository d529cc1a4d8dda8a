"""`sentifuse regions`: what there is to do with encoders of regions beside extracting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentifuse import ConfigError, DataError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.extract.encoder import EncoderPlan
    from sentifuse.extract.parity import Parity, Summary

app = typer.Typer(help="Compare the backends that find regions of images.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command(
    "parity", epilog="Example: sentifuse regions parity --profile vg.toml --against detectron2.toml --images p/"
)
def parity(
    *,
    profile: Annotated[str, typer.Option("--profile", help="A profile whose regions are compared …")],
    against: Annotated[str, typer.Option("--against", help="… with the regions of this one.")],
    images: Annotated[list[Path], typer.Option("--images", help="An image or a folder; may be given several times.")],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Take the first N images only.", show_default="all")
    ] = None,
    precision: Annotated[str, typer.Option(help="exact, fast or fastest, of both.")] = "exact",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:0.")] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 3 if they are not the same.")] = False,
    weights: options.Weights = None,
    offline: options.Offline = False,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Run two backends on the same images: boxes, ids and features row by row, and whether they are the same.

    Exit code 0 whether they are or not, unless --strict asks for 3 if they are not.
    """
    from sentifuse.extract.devices import resolve_devices
    from sentifuse.extract.models.weights import weights_folder
    from sentifuse.extract.parity import list_images, run_parity

    output = Output(as_json=as_json)
    files = list_images(images, limit=limit)
    chosen = resolve_devices(device)[0]
    search = [*(weights or []), weights_folder(artifacts)]
    names = (profile, against) if profile != against else (profile, f"{against} again")
    plans = {
        name: _plan(one, search, precision, chosen, is_offline=offline)
        for name, one in zip(names, (profile, against), strict=True)
    }
    with output.progress("comparing, each image by both", 2 * len(files), "runs") as advance:
        found = run_parity(plans, files, device=chosen, progress=advance)
    output.result(found.to_json(), parity_lines(found))
    if strict and not found.is_same:
        raise typer.Exit(DataError.exit_code)


def _plan(profile_name: str, search: list[Path], precision: str, device: str, *, is_offline: bool) -> "EncoderPlan":
    from sentifuse.extract.encoder import describe_encoder
    from sentifuse.extract.models.weights import find_models
    from sentifuse.extract.profile import load_profile

    profile = load_profile(profile_name)
    if "regions" not in profile.encoders:
        there = ", ".join(profile.encoders)
        raise ConfigError(f"profile {profile.name!r} ({profile.path}) has no [encoders.regions], only {there}")
    entry = profile.encoders["regions"]
    model = find_models(profile, [entry], search=search, is_offline=is_offline).models["regions"]
    return describe_encoder(entry, model, precision=precision, device=device)


def parity_lines(found: "Parity") -> list[str]:
    """The comparison for a person."""
    lines = [
        f"{letter}: {side.name}, backend {side.backend}, {side.model}, {side.precision}, "
        f"{side.seconds_per_image:.3g} s an image"
        for letter, side in zip("ab", found.sides, strict=True)
    ]
    headings = ["image", "rows a", "rows b", "matched", "IoU mean", "min", "box px", "objects", "attributes"]
    rows = [[Path(one.image).name, *_cells(one.summary)] for one in found.images]
    if len(rows) > 1:
        rows.append(["all", *_cells(found.total)])
    lines += table([*headings, "cosine mean", "min", "feature", "score"], rows)
    lines += [f"not compared: {image}: {reason}" for image, reason in found.failed.items()]
    return [*lines, *found.notes, found.verdict]


def _cells(summary: "Summary") -> list[object]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        *summary.rows,
        summary.matched,
        number(summary.iou_mean, ".6f"),
        number(summary.iou_min, ".6f"),
        number(summary.box_px_max, ".2g"),
        number(summary.objects_equal, ".1%"),
        number(summary.attributes_equal, ".1%"),
        number(summary.cosine_mean, ".8f"),
        number(summary.cosine_min, ".8f"),
        number(summary.feature_max, ".2g"),
        number(summary.score_max, ".2g"),
    ]
