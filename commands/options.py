"""Options that several commands share, declared once. Knows typer, nothing of the rooms."""

from pathlib import Path
from typing import Annotated

import typer

Artifacts = Annotated[
    Path,
    typer.Option(
        "--artifacts",
        envvar="SENTIFUSE_ARTIFACTS",
        help="Folder for datasets, cache, runs and weights.",
        show_default="./artifacts",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout, all else on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Dataset = Annotated[
    str | None, typer.Option("--dataset", help="A prepared dataset.", show_default="the dataset last extracted")
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="paper, tiny, offline, or a TOML file of your own.",
        show_default="the one chosen by `profiles use`, else paper",
    ),
]
Weights = Annotated[
    list[Path] | None, typer.Option("--weights", help="Folder with weight files; may be given several times.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network (as HF_HUB_OFFLINE=1 does).")]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        "--max-failures", min=0, help="Exit 3 if more rows failed.", show_default="5 % of the rows, at least 10"
    ),
]
Run = Annotated[Path | None, typer.Option("--run", help="A run directory or its name.", show_default="last trained")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]
Reader = Annotated[
    str, typer.Option("--reader", help="mmap, or h5py where mapping is unsafe (some network disks): slower, the same.")
]
Resident = Annotated[
    str | None,
    typer.Option(
        "--resident",
        help="device or ram: move the features there once, if they fit.",
        show_default="read them from the disk's cache",
    ),
]
Rule = Annotated[str | None, typer.Option("--rule", help="Label rule: multisentinet, consistent or given.")]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="random, folds, grouped, grouped-folds, fair, clmlf or given: see `data prepare` and docs/protocols.md.",
        show_default="the dataset's own",
    ),
]
Fold = Annotated[
    int | None, typer.Option("--fold", help="Which fold is the test part, from 1, under a protocol with folds.")
]

ARTIFACTS = Path("artifacts")


def split_names(text: str | None) -> tuple[str, ...]:
    """The names in a list separated by commas; none of nothing.

    >>> split_names(" tokens, regions,"), split_names(None)
    (('tokens', 'regions'), ())
    """
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
