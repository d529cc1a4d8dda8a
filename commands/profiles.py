"""`sentifuse profiles`: which encoders with which models there are, and which profile this folder uses."""

from typing import Annotated

import typer

from sentifuse.commands import options
from sentifuse.commands.output import Output, table
from sentifuse.commands.state import profile_or_chosen, remember

app = typer.Typer(help="List, show and choose profiles (sets of encoders with their models).", no_args_is_help=True)


@app.command("list", epilog="Example: sentifuse profiles list")
def list_command(
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """The profiles that are shipped, with the one in use marked."""
    from sentifuse.extract.profile import list_profiles, load_profile

    chosen, why = profile_or_chosen(artifacts, None)
    profiles = [load_profile(name) for name in list_profiles()]
    document = {
        "profiles": [{"name": p.name, "description": p.description, "default": list(p.default)} for p in profiles],
        "in_use": chosen,
    }
    rows = [["*" if p.name == chosen else "", p.name, ", ".join(p.default), p.description] for p in profiles]
    lines = [*table(["", "profile", "runs by default", "what it is"], rows), f"* in use: {chosen} ({why})"]
    Output(as_json=as_json).result(document, lines)


@app.command("show", epilog="Example: sentifuse profiles show offline")
def show(
    name: Annotated[str, typer.Argument(help="A shipped profile or a TOML file.")],
    *,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """One profile: the model and the settings of every encoder."""
    from sentifuse.extract.profile import load_profile

    profile = load_profile(name)
    document = {
        "name": profile.name,
        "description": profile.description,
        "notice": profile.notice,
        "file": str(profile.path),
        "default": list(profile.default),
        "encoders": {
            entry.name: {"model": str(entry.model), "settings": dict(entry.settings)}
            for entry in profile.encoders.values()
        },
    }
    rows = [
        [
            e.name,
            "yes" if e.name in profile.default else "by name",
            str(e.model),
            ", ".join(f"{k}={v}" for k, v in e.settings.items()),
        ]
        for e in profile.encoders.values()
    ]
    lines = [f"{profile.name}: {profile.description}", *table(["encoder", "default", "model", "settings"], rows)]
    lines.append(f"file: {profile.path} (copy it to start your own; paths in it are relative to the file)")
    Output(as_json=as_json).result(document, lines)


@app.command("use", epilog="Example: sentifuse profiles use offline")
def use(
    name: Annotated[str, typer.Argument(help="A shipped profile or a TOML file.")],
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Choose the profile that `extract` uses from now on in this artefacts folder."""
    from pathlib import Path

    from sentifuse.extract.profile import load_profile

    profile = load_profile(name)  # a name that does not load is not chosen
    kept = str(Path(name).resolve()) if Path(name).is_file() else name
    remember(artifacts, profile=kept)
    Output(as_json=as_json).result({"profile": kept}, [f"extract now uses the profile {profile.name} in {artifacts}"])
