"""Small real datasets on disk for the tests of the data room."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

MakeMvsa = Callable[..., Path]


@pytest.fixture
def make_mvsa(tmp_path: Path) -> MakeMvsa:
    """Writes an MVSA folder from id -> "text,image" (tabs between annotators); every pair gets a text and an image."""

    def make(
        rows: Mapping[str, str], *, folder: str = "mvsa", texts: Mapping[str, bytes] | None = None, tail: bytes = b""
    ) -> Path:
        root = tmp_path / folder
        (root / "data").mkdir(parents=True, exist_ok=True)
        lines = ["ID\ttext,image", *(f"{id_}\t{words}" for id_, words in rows.items())]
        (root / "labelResultAll.txt").write_bytes("".join(f"{line}\r\n" for line in lines).encode() + tail)
        for number, id_ in enumerate(rows):
            image = Image.new("RGB", (8, 8), (number % 256, 90, 40))
            image.save(root / "data" / f"{id_}.jpg", "JPEG")
            text = (texts or {}).get(id_, f"tweet {id_} \n".encode())
            (root / "data" / f"{id_}.txt").write_bytes(text)
        return root

    return make


@pytest.fixture(scope="session")
def write_multiple() -> Callable[..., None]:
    """Lays MVSA-Multiple out from `labelResultAll.txt` and `texts.jsonl`, without images."""

    def write(source: Path, root: Path, *, leave_out: tuple[str, ...] = ()) -> None:
        (root / "data").mkdir(parents=True)
        rows = (source / "labelResultAll.txt").read_bytes().split(b"\r\n")
        kept = [row for row in rows if row.split(b"\t")[0].decode() not in leave_out]
        (root / "labelResultAll.txt").write_bytes(b"\r\n".join(kept))
        with (source / "texts.jsonl").open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if row["id"] not in leave_out:
                    (root / "data" / f"{row['id']}.txt").write_text(row["text"], encoding="utf-8")

    return write
