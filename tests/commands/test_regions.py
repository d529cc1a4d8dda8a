"""The command `regions parity`: one table and one sentence, or one object; what is wrong is said before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """Two profiles with regions, one without, and three images."""
    detector = '[encoders.regions]\nbackend = "torchvision"\nmodel = { tiny = "detector" }\n'
    (tmp_path / "one.toml").write_text(detector, encoding="utf-8")
    (tmp_path / "other.toml").write_text(detector + "count = 5\n", encoding="utf-8")
    (tmp_path / "none.toml").write_text('[encoders.tokens]\nmodel = { tiny = "text" }\n', encoding="utf-8")
    (tmp_path / "images").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.linear_gradient("L").convert("RGB").resize((60 + number, 40)).save(tmp_path / "images" / f"{colour}.png")
    return tmp_path


def words(folder: Path, first: str, second: str, *more: str) -> list[str]:
    images = ["--images", str(folder / "images")]
    return ["regions", "parity", "--profile", first, "--against", second, *images, "--device", "cpu", *more]


def test_a_table_and_a_verdict_are_printed(profiles: Path, type_command: Command) -> None:
    done = type_command(*words(profiles, str(profiles / "one.toml"), str(profiles / "one.toml")))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("a: ")
    assert "backend torchvision, tiny detector, float32" in lines[1]
    assert [line.split()[0] for line in lines[4:8]] == ["blue.png", "green.png", "red.png", "all"]
    assert lines[-1].startswith("the same regions of 3 images")


def test_json_is_one_object_with_images_and_total(profiles: Path, type_command: Command) -> None:
    more = ("--json", "--limit", "2")
    done = type_command(*words(profiles, str(profiles / "one.toml"), str(profiles / "other.toml"), *more))
    assert done.code == 0
    document = done.document
    assert set(document) == {"sides", "images", "total", "failed", "one_sided", "notes", "is_same", "verdict"}
    assert len(document["images"]) == 2
    assert document["is_same"] is False
    assert document["total"]["rows"][1] == 10
    assert "rows have no partner" in document["verdict"]


def test_the_exit_code_tells_the_verdict_only_if_asked(profiles: Path, type_command: Command) -> None:
    one, other = str(profiles / "one.toml"), str(profiles / "other.toml")
    first = ("--limit", "1")
    assert type_command(*words(profiles, one, other, *first)).code == 0
    strict = type_command(*words(profiles, one, other, *first, "--strict", "--json"))
    assert strict.code == 3
    assert strict.document["is_same"] is False
    assert type_command(*words(profiles, one, one, *first, "--strict")).code == 0


def test_the_work_is_counted_as_runs_of_both(profiles: Path, type_command: Command) -> None:
    done = type_command(*words(profiles, str(profiles / "one.toml"), str(profiles / "other.toml"), "--limit", "1"))
    assert "comparing, each image by both: 2 of 2 runs" in done.err


def test_a_profile_without_regions_is_refused_by_name(profiles: Path, type_command: Command) -> None:
    done = type_command(*words(profiles, str(profiles / "one.toml"), str(profiles / "none.toml")))
    assert done.code == 2
    assert "none.toml) has no [encoders.regions], only tokens" in done.err


def test_no_images_are_refused_before_any_model_is_looked_for(profiles: Path, type_command: Command) -> None:
    here = ["--profile", "paper", "--against", "paper"]
    done = type_command("regions", "parity", *here, "--images", profiles / "nowhere", "--device", "cpu")
    assert done.code == 3
    assert "nowhere: no such file or folder" in done.err


def test_a_missing_model_is_named(profiles: Path, type_command: Command) -> None:
    done = type_command(*words(profiles, "paper", str(profiles / "one.toml"), "--offline"))
    assert done.code == 5
    assert "vg-faster-rcnn-resnet101-c4.safetensors" in done.err


def test_help_has_an_example(type_command: Command) -> None:
    done = type_command("regions", "parity", "--help")
    assert done.code == 0
    assert "Example: sentifuse regions parity --profile" in done.out
