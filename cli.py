"""The command line `sentifuse`: parse, call, print. Imports only the standard library and typer at the top.

Errors of the project leave as one red line with their exit code (`--debug` shows the trace), Ctrl-C as 130, SIGTERM as
143, anything else is a bug and keeps its traceback. `python cli.py` on a clone that is not installed says how to
install it.
"""

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

try:
    import typer

    import sentifuse
    from sentifuse.commands import (
        benchmark,
        cache,
        compare,
        data,
        distil,
        doctor,
        evaluate,
        explain,
        extract,
        heads,
        profiles,
        regions,
        report,
        train,
        weights,
    )
    from sentifuse.commands.output import Output
except ModuleNotFoundError as missing:
    if missing.name not in {"sentifuse", "typer"}:
        raise
    sys.stderr.write(f"sentifuse is not installed here ({missing}). Run: make setup, then .venv/bin/sentifuse --help\n")
    sys.exit(5)

INTERRUPTED, TERMINATED = 130, 143
KEPT = "what was finished is kept, and the same command again goes on from there (a training with --resume, or anew)"

app = typer.Typer(
    name="sentifuse",
    help="Image–text sentiment in two stages: extract features once, then train and evaluate fusion heads on them.",
    epilog="First steps: sentifuse data prepare sample; sentifuse extract --dataset sample --profile tiny; "
    "sentifuse train --head itin; sentifuse evaluate --split test",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.command("extract", epilog=extract.EXAMPLE)(extract.extract)
app.add_typer(cache.app, name="cache")
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.command("explain", epilog=explain.EXAMPLE)(explain.explain)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("benchmark", epilog=benchmark.EXAMPLE)(benchmark.benchmark)
app.add_typer(distil.app, name="distil")
app.add_typer(heads.app, name="heads")
app.add_typer(profiles.app, name="profiles")
app.add_typer(regions.app, name="regions")
app.add_typer(weights.app, name="weights")
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"sentifuse {sentifuse.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the work
    termination = Termination()
    signal.signal(signal.SIGTERM, termination)
    sys.exit(run(given, termination))


class Termination:
    """Lets SIGTERM end a command as Ctrl-C does: batch systems send it some seconds before they kill.

    A second one ends the process at once, and so does the first in a forked worker, whose parent speaks for both.
    """

    def __init__(self) -> None:
        self.has_come = False
        self._process = os.getpid()

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != self._process:
            os.kill(os.getpid(), signal.SIGTERM)
        self.has_come = True
        raise KeyboardInterrupt


def run(arguments: Sequence[str], termination: Termination | None = None) -> int:
    """Run one command; returns the exit code. Bugs are not caught."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="sentifuse", standalone_mode=False)
    except sentifuse.SentifuseError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        return _failed(arguments, type(error).__name__, str(error), error.exit_code)
    except (PermissionError, NotADirectoryError) as error:  # the folders are the user's: no bug of ours
        if "--debug" in arguments:
            traceback.print_exc()
        message = (
            f"{error.filename}: cannot be read or written: {error.strerror}. Mend the permissions or the path, or "
        )
        return _failed(arguments, "DataError", f"{message}name another folder with --artifacts", 3)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments, termination)
    except Exception as error:  # click's own exceptions know their exit code; all others are bugs and go on
        usage_code = getattr(error, "exit_code", None)
        if not isinstance(usage_code, int) or not hasattr(error, "format_message"):
            raise
        hint = f" Try: {context.command_path} --help" if (context := getattr(error, "ctx", None)) else ""
        return _failed(arguments, "UsageError", error.format_message() + hint, usage_code)
    if code == INTERRUPTED:
        return _interrupted(arguments, termination)
    return code if isinstance(code, int) else 0


def _interrupted(arguments: Sequence[str], termination: Termination | None) -> int:
    is_terminated = termination is not None and termination.has_come
    return _failed(
        arguments,
        "Terminated" if is_terminated else "Interrupted",
        f"{'terminated' if is_terminated else 'interrupted'}; {KEPT}",
        TERMINATED if is_terminated else INTERRUPTED,
    )


def _failed(arguments: Sequence[str], kind: str, message: str, exit_code: int) -> int:
    output = Output(as_json="--json" in arguments)
    output.note(f"error: {message}", style="error")
    if "sentifuse " in message and (hint := _how_to_call()):
        output.note(hint, style="dim")
    if output.as_json:
        document = {"error": {"type": kind, "message": message, "exit_code": exit_code}}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    return exit_code


def _how_to_call() -> str:
    """How to type `sentifuse` where the environment is not activated; empty where it is."""
    import shutil  # only a failure pays for it
    from pathlib import Path

    command = Path(sys.executable).parent / "sentifuse"
    if shutil.which("sentifuse") or not command.is_file():
        return ""
    activate = command.with_name("activate")
    return f"(sentifuse is {command} here; or type first: source {activate})"


if __name__ == "__main__":
    main()
