"""`sentifuse doctor`: is this installation right, and are golden numbers reproduced?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sentifuse
from sentifuse import ConfigError
from sentifuse.commands import options
from sentifuse.commands.output import Output

if TYPE_CHECKING:
    from sentifuse.doctor import Check, Finding, GoldenVerdict

EXAMPLE = "Examples: sentifuse doctor · sentifuse doctor --golden smooth_s101_img_0_400x300.npz --images photos/"
SIGNS = {"ok": "ok", "warning": "warning", "failed": "FAILED", "skipped": "skipped"}  # a state as it is shown


def doctor(
    more: Annotated[
        list[Path] | None, typer.Argument(help="More golden files, after --golden.", metavar="[FILE.npz]...")
    ] = None,
    *,
    golden: Annotated[
        list[Path] | None,
        typer.Option("--golden", help="Verify this golden file instead; may be given several times.", metavar="FILE"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the golden files' images.", show_default="beside each file")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of golden files: exact, fast or fastest.")] = "exact",
    float64: Annotated[
        bool, typer.Option("--float64", help="Golden files in double precision, as far as the proposals.")
    ] = False,
    device: Annotated[str, typer.Option(help="For golden files: auto, cpu, cuda or cuda:1; one is used.")] = "auto",
    profile: options.ProfileName = None,
    weights: options.Weights = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Check what is installed here, the models of a profile, the encoders and the cache. Exit code 5 if any fails.

    With --golden: compute what golden files hold and show the largest deviation of each stage with its limit.
    """
    output = Output(as_json=as_json)
    files = [*(golden or []), *(more or [])]
    if golden:
        if profile is not None or weights:
            raise ConfigError("--profile and --weights are for the checks without --golden: golden files bring theirs")
        _verify(output, files, images=images, precision=precision, is_float64=float64, device=device)
        return
    if more:
        raise ConfigError(f"{more[0]}: a file without --golden. Type: sentifuse doctor --golden {more[0]}")
    if images or float64 or precision != "exact" or device != "auto":
        raise ConfigError("--images, --precision, --float64 and --device go with --golden FILE, which is missing")
    _examine(output, artifacts, profile, weights or [])


def _examine(output: Output, artifacts: Path, profile: str | None, weights: Sequence[Path]) -> None:
    from sentifuse.commands.state import profile_or_chosen
    from sentifuse.doctor import all_checks, examine

    name, why = profile_or_chosen(artifacts, profile)
    output.note(f"profile {name} ({why})")
    areas: list[str] = []

    def begin(check: "Check") -> None:
        if check.area not in areas:
            areas.append(check.area)
            output.note(f"checking: {check.area}", style="dim")

    checks = all_checks(artifacts=artifacts, profile=name, weights=weights)
    findings = list(examine(checks, begin=begin))
    counts = {state: sum(finding.state == state for finding in findings) for state in SIGNS}
    failed = [f"{finding.area}: {finding.check}" for finding in findings if finding.state == "failed"]
    problem = f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}" if failed else ""
    document = {
        "version": sentifuse.__version__,
        "profile": name,
        "counts": counts,
        "checks": [finding.to_json() for finding in findings],
    }
    summary = ", ".join(f"{count} {SIGNS[state]}" for state, count in counts.items() if count)
    _finish(output, document, [*_lines(findings), "", summary], problem)


def _lines(findings: "Sequence[Finding]") -> list[str]:
    """A block for each area; under a check that is not ok, what to do."""
    lines: list[str] = []
    told: dict[str, str] = {}  # advice -> the check it was first given for
    width = max(len(finding.check) for finding in findings)
    for i, finding in enumerate(findings):
        if not i or finding.area != findings[i - 1].area:
            lines += [""] * bool(i) + [finding.area]
        lines.append(f"  {SIGNS[finding.state]:7s}  {finding.check:{width}s}  {finding.found}")
        if finding.advice:
            first = told.setdefault(finding.advice, finding.check)
            advice = finding.advice if first == finding.check else f"as for {first}"
            lines.append(f"  {'':7s}  {'':{width}s}  → {advice}")
    return lines


def _verify(output: Output, files: Sequence[Path], **asked: Any) -> None:
    from sentifuse.doctor import verify_golden
    from sentifuse.extract.devices import resolve_devices

    asked["device"] = resolve_devices(asked["device"])[0]
    note: Callable[[str], None] = output.note
    verdicts: list[GoldenVerdict] = []
    for verdict in verify_golden(files, note=note, **asked):
        verdicts.append(verdict)
        if not output.as_json:
            output.result({}, verdict.lines())  # as they come: a file takes half a minute
    wrong = [verdict.lines()[0] for verdict in verdicts if not verdict.is_right]
    problem = f"{len(wrong)} of {len(verdicts)} golden files are not reproduced: {'; '.join(wrong)}" if wrong else ""
    shown = {"precision": asked["precision"], "float64": asked["is_float64"], "device": asked["device"]}
    document = {"files": [verdict.to_json() for verdict in verdicts], **shown}
    _finish(output, document, [], problem)


def _finish(output: Output, document: dict[str, Any], lines: Sequence[str], problem: str) -> None:
    """The result; with a problem exit code 5, and in JSON one object all the same."""
    from sentifuse.doctor import Unwell

    code = Unwell.exit_code if problem else 0
    document = {"ok": not problem, "exit_code": code, **document}
    if problem:
        document["error"] = {"type": Unwell.__name__, "message": problem, "exit_code": code}
    output.result(document, lines)
    if problem and output.as_json:
        output.note(f"error: {problem}", style="error")
        raise typer.Exit(code)
    if problem:
        raise Unwell(problem)
