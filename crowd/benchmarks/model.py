"""The model that is benchmarked: anything that the encoder `crowd` loads, found by its path or its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ResourceError
from sentifuse.crowd.students.folder import students_folder
from sentifuse.data.files import is_file
from sentifuse.extract.encoder import EncoderPlan, describe_encoder
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import locate, weights_folder
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.seen_images import read_seen
from sentifuse.extract.students import CONFIG, MODEL_TYPE

__all__ = ["BenchmarkedModel", "find_model"]

ENCODER = "crowd"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkedModel:
    """A model on this machine; no weight of it is loaded yet.

    Attributes
    ----------
    seen
        SHA-256 of the images that it is known to have been trained on; empty where nothing says.
    """

    name: str
    folder: Path
    plan: EncoderPlan
    seen: frozenset[str]

    @property
    def is_student(self) -> bool:
        """Whether the folder is one of this program's students."""
        return self.plan.backbone.model.architecture == MODEL_TYPE

    def to_json(self) -> dict[str, Any]:
        """What tells it from another one."""
        model = self.plan.backbone.model
        return {
            "name": self.name,
            "folder": str(self.folder),
            "architecture": model.architecture,
            "digest": model.digest,
            "seen_images": len(self.seen),
        }


def find_model(
    artifacts: Path, name_or_path: str, *, labels: Sequence[str] = (), device: str = "cpu"
) -> BenchmarkedModel:
    """A folder by its path, or by its name among the students and the weights below `artifacts`.

    Parameters
    ----------
    labels
        The classes in the order of its outputs, where its config.json does not name them.

    Raises
    ------
    ResourceError
        None is there (the message names those that are), or it is no model of three classes that `crowd` can load.
    ConfigError
        `labels` for a student, or other classes.
    """
    places = (students_folder(artifacts), weights_folder(artifacts))
    folder = _find(name_or_path, places)
    settings = {"labels": list(labels)} if labels else {}
    source = ModelSource(kind="path", name=str(folder))
    entry = EncoderEntry(name=ENCODER, model=source, settings=settings, where=f"--model {name_or_path}")
    model = locate(source, search=(), is_offline=True)
    return BenchmarkedModel(
        name=folder.resolve().name,
        folder=folder,
        plan=describe_encoder(entry, model, precision="exact", device=device),
        seen=frozenset(image.image_digest for image in read_seen(folder)),
    )


def _find(name_or_path: str, places: Sequence[Path]) -> Path:
    for folder in (Path(name_or_path).expanduser(), *(place / name_or_path for place in places)):
        if is_file(folder / CONFIG):
            return folder
    known = sorted(path.parent.name for place in places for path in place.glob(f"*/{CONFIG}"))
    raise ResourceError(
        f"--model {name_or_path}: expected a folder with config.json (a ViT of transformers, or a student), or the "
        f"name of one in {' or '.join(map(str, places))}; found none (there are: {', '.join(known) or 'none'})"
    )
