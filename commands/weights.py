"""`sentifuse weights`: weight files that lie in the artefacts folder."""

from pathlib import Path
from typing import Annotated

import typer

from sentifuse import ResourceError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

app = typer.Typer(help="Weight files of the artefacts folder.", no_args_is_help=True)


@app.command("list", epilog="Example: sentifuse weights list --profile offline")
def list_command(
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    profile: options.ProfileName = None,
    weights: options.Weights = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """What every encoder of a profile needs, and whether it is there; never uses the network."""
    from sentifuse.commands.state import profile_or_chosen
    from sentifuse.extract.models.weights import locate, weights_folder
    from sentifuse.extract.profile import load_profile

    name, _ = profile_or_chosen(artifacts, profile)
    rows: list[list[str]] = []
    for entry in load_profile(name).encoders.values():
        try:
            located = locate(entry.model, search=[*(weights or []), weights_folder(artifacts)], is_offline=True)
            rows.append([entry.name, str(entry.model), "there", located.digest[:12]])
        except ResourceError:
            rows.append([entry.name, str(entry.model), "missing", ""])
    keys = ("encoder", "model", "state", "digest")
    document = {"profile": name, "weights": [dict(zip(keys, row, strict=True)) for row in rows]}
    Output(as_json=as_json).result(document, table(keys, rows))


@app.command("add", epilog="Example: sentifuse weights add mobilenet_v2_imagenet_fp16.safetensors")
def add(
    file: Annotated[Path, typer.Argument(help="A weight file or model folder to copy into artifacts/weights/.")],
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file of the same name.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Copy a weight file or a model folder to where profiles look for it, and print its SHA-256."""
    from sentifuse.extract.models.placing import add_weights
    from sentifuse.extract.models.weights import weights_folder

    added = add_weights(file, weights_folder(artifacts), overwrite=force)
    lines = [f"{name}  sha256 {digest}" for name, digest in added.items()]
    Output(as_json=as_json).result({"folder": str(weights_folder(artifacts)), "files": added}, lines)
