"""`sentifuse report`: a run or a comparison as one HTML page that needs no other file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

EXAMPLE = "Example: sentifuse report --split test --out itin.html"


def report(
    *,
    run: options.Run = None,
    comparison: Annotated[
        Path | None, typer.Option("--comparison", help="Instead: a folder that `compare` wrote, or its name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="test, val or train of a run.", show_default="test")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file.", show_default="in the run or the comparison")
    ] = None,
    device: options.Device = "auto",
    reader: options.Reader = "mmap",
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Data, recipe, curves, metrics, subsets, calibration, errors, attention; of a comparison its tables: one page."""
    from sentifuse.commands.state import run_or_last

    output = Output(as_json=as_json)
    if comparison is not None:
        if run is not None or split is not None:
            other = "--run" if run is not None else "--split"
            raise ConfigError(f"--comparison: expected no {other} beside it. Leave one of them out")
        folder = comparison if comparison.exists() else artifacts / "comparisons" / comparison
        output.note(f"reporting comparison {folder.name} (--comparison)")
        from sentifuse.fuse.report.comparison_report import report_comparison

        found = report_comparison(folder, out=out)
    else:
        directory, why = run_or_last(artifacts, run)
        output.note(f"reporting {directory.name} ({why}) on {split or 'test'}")
        from sentifuse.fuse.report.run_report import report_run

        found = report_run(
            directory,
            split=split or "test",
            out=out,
            artifacts=artifacts,
            device=device,
            reader=reader,
            note=output.note,
        )
    output.result(found, _lines(found))


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"html: {found['html']} ({found['size_bytes'] / 1e6:.1f} MB)"]
    if "evaluations" in found:
        count = found["evaluations"]
        times = "once" if count == 1 else f"{count:,} times"
        lines.append(f"the {found['split']} part was opened {times} for this run (counted in run.json)")
    return lines
