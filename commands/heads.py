"""`sentifuse heads`: the fusion heads there are."""

import typer

from sentifuse.commands import options
from sentifuse.commands.output import Output, table

app = typer.Typer(help="The fusion heads there are.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("list", epilog="Example: sentifuse heads list")
def list_command(*, as_json: options.AsJson = False, debug: options.Debug = False) -> None:
    """Every head: what it is, which features it needs, its presets."""
    from sentifuse.fuse.heads import list_heads

    heads = list_heads()
    document = {
        "heads": [
            {"name": h.name, "description": h.description, "needs": list(h.needs), "presets": list(h.presets)}
            for h in heads
        ]
    }
    rows = [[h.name, ", ".join(h.needs), ", ".join(h.presets), h.description] for h in heads]
    Output(as_json=as_json).result(document, table(["head", "needs", "presets", "what it is"], rows))
