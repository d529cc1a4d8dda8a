"""What every benchmark does with its numbers: print a line, write a JSON file."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write(artifacts: Path, name: str, document: Mapping[str, Any]) -> None:
    folder = artifacts / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    say(f"written: {folder / name}")
