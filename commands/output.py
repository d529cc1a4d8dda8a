"""What a command shows a person, and what it gives a program: two channels that never mix.

Results go to stdout (with `--json` exactly one object), everything else to stderr. Knows rich, nothing of the rooms.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

PLAIN_INTERVAL_S = 5.0  # without a terminal: one progress line per interval
SHORTEST_S = 0.01  # over a shorter time no rate is told


class Output:
    """The channels of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def note(self, message: str, *, style: str = "") -> None:
        """One line for the person, on stderr: what was assumed, what is going on, what to do next."""
        if style and _has_colour(sys.stderr):
            codes = {"warning": "33", "error": "31", "good": "32", "dim": "2"}
            message = f"\x1b[{codes[style]}m{message}\x1b[0m"
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    def result(self, document: Mapping[str, Any], lines: Sequence[str] = ()) -> None:
        """The command's result: the object with `--json`, else the lines."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
        else:
            for line in lines:
                sys.stdout.write(line + "\n")
        sys.stdout.flush()

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "pairs") -> Iterator[Callable[[int], None]]:
        """A bar with rate and time left on a terminal, a plain line every few seconds elsewhere.

        Yields a function that takes the number of units newly done.
        """
        if total <= 0:
            yield lambda done: None
        elif sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            with _rich_bar(what, total, unit) as advance:
                yield advance
        else:
            yield _plain_lines(self, what, total, unit)

    @contextmanager
    def counter(self, what: str, unit: str = "pairs") -> Iterator[Callable[[int, int], None]]:
        """`progress` for work that tells its total itself: yields a function of (units done, units in all).

        Nothing is shown before the first call.
        """
        with ExitStack() as stack:
            advance: Callable[[int], None] | None = None
            seen = 0

            def report(done: int, total: int) -> None:
                nonlocal advance, seen
                if advance is None:
                    advance = stack.enter_context(self.progress(what, total, unit))
                advance(done - seen)
                seen = done
                if done >= total:  # another bar may follow
                    stack.close()
                    advance, seen = None, 0

            yield report


def _has_colour(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


@contextmanager
def _rich_bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f} {unit}/s" if task.speed else f"- {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def _plain_lines(output: Output, what: str, total: int, unit: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done_so_far = 0
    shown = 0
    lock = threading.Lock()  # several threads report what they have done

    def advance(done: int) -> None:
        with lock:
            add(done)

    def add(done: int) -> None:
        nonlocal started, last, done_so_far, shown
        now = time.monotonic()
        if not done_so_far:
            started = last = now  # loading models before the first row is no work rate
        done_so_far += done
        is_last = done_so_far >= total and shown < total
        if not is_last and now - last < PLAIN_INTERVAL_S:
            return
        if done_so_far == shown:
            return
        last, shown = now, done_so_far
        rate = done_so_far / (now - started) if now - started > SHORTEST_S else 0.0  # of one report no rate is known
        speed = f", {spoken_rate(rate)} {unit}/s, {(total - done_so_far) / rate:,.0f} s left" if rate else ""
        output.note(f"{what}: {done_so_far:,} of {total:,} {unit}{speed}")

    return advance


def spoken_rate(rate: float) -> str:
    """A rate in digits that say something, of quick work and of slow.

    >>> spoken_rate(1234.5), spoken_rate(12.34), spoken_rate(0.0752)
    ('1,234', '12.3', '0.075')
    """
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a plain table: the first column to the left, numbers to the right.

    >>> table(["class", "n"], [["positive", 12], ["neutral", 3]])
    ['class      n', '--------  --', 'positive  12', 'neutral    3']
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return [line(list(headings)), "  ".join("-" * w for w in widths), *(line(row) for row in cells)]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
