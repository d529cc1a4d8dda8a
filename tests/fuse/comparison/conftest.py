"""One small comparison, trained once: three heads, two seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sentifuse.fuse.comparison.compare import CompareRequest, compare

HEADS = ("text_only", "image_only", "ccr_like")
QUICK = {"epochs": "1", "batch_size": "16"}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A world with its comparison."""

    world: Any
    document: dict[str, Any]

    def request(self, **options: Any) -> CompareRequest:
        return request_of(self.world, **options)


def request_of(world: Any, **options: Any) -> CompareRequest:
    plain = {"heads": HEADS, "seeds": "2", "overrides": QUICK, "workers": 1, "device": "cpu"}
    return CompareRequest(artifacts=world.artifacts, dataset=world.name, **(plain | options))


@pytest.fixture(scope="session")
def request_for() -> Callable[..., CompareRequest]:
    """`request_of`, since test modules cannot import each other."""
    return request_of


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory, write_world: Callable[..., Any]) -> Compared:
    """Trained once; tests may read its runs and add others, not change them."""
    folder: Path = tmp_path_factory.mktemp("compared") / "artifacts"
    labels = {f"p{i}": ("negative", "neutral", "positive")[i % 3] for i in range(90)}
    world = write_world(artifacts=folder, text_labels=labels, image_labels=dict(list(labels.items())[:60]))
    return Compared(world=world, document=compare(request_of(world)))
