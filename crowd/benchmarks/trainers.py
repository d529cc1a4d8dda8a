"""How a protocol's fine-tuning is done: all of a vision transformer, or the head of a probe on its frozen vectors.

Both follow the recipe of `finetune.recipe` and begin with the benchmarked model's own weights, its head included.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from sentifuse import DataError
from sentifuse.crowd.benchmarks.answers import OK, Answers, Look, answer_images, look_at
from sentifuse.crowd.benchmarks.head_training import Learned, answer_by_head, train_head
from sentifuse.crowd.benchmarks.model import BenchmarkedModel, find_model
from sentifuse.crowd.benchmarks.tasks import MEANWHILE, Task, Trained, Trainer
from sentifuse.crowd.finetune.job import finetune
from sentifuse.crowd.finetune.network import VIT_KEYS, read_base
from sentifuse.crowd.finetune.recipe import FinetuneRecipe, FinetuneRequest, ImageRow, resolve_recipe
from sentifuse.extract.backbones.loading import load_model
from sentifuse.extract.encoder import Array, Outputs, RowValues
from sentifuse.extract.encoders.sentiment_classes import class_columns
from sentifuse.extract.students import StudentConfig, StudentParts, read_student, write_student

__all__ = ["as_student", "make_trainer"]

Report = Callable[[str, Mapping[str, Any]], None]

# Shapes: N images of a task, D width of the vectors below a probe's head.


def make_trainer(
    model: BenchmarkedModel,
    *,
    work: Path,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
    batch_rows: int = 16,
    report: Report | None = None,
) -> Trainer:
    """The trainer that fits a model: of its head where it is a probe, else of all its weights.

    Parameters
    ----------
    work
        Folder for what is only needed meanwhile; nothing stays in it.
    overrides
        Settings over the protocol's preset.
    report
        Hears the task's name and every row of its history.

    Raises
    ------
    ConfigError
        A setting that is unknown or cannot be.
    ResourceError
        A model that cannot be fine-tuned: a transformer of another kind than ViT.
    """
    recipes = {name: resolve_recipe("full", preset=name, overrides=overrides) for name in ("five_fold", "fi_splits")}
    if model.is_student and read_student(model.folder).kind == "probe":
        return _ProbeTrainer(model, recipes, device, batch_rows)
    read_base(model.folder, 0)
    return _VitTrainer(model, recipes, work, device, batch_rows, report or (lambda name, row: None))


def as_student(model: BenchmarkedModel, folder: Path) -> Path:
    """A transformers classifier as a student folder, its own linear head included, columns in our order."""
    from transformers import AutoModelForImageClassification

    base = read_base(model.folder, 0)
    net: Any = load_model(AutoModelForImageClassification, model.folder, torch.device("cpu"))
    columns = list(class_columns(model.plan.backbone.model, model.plan.settings.labels))
    tensors = {f"vit.{name}": value for name, value in net.vit.state_dict().items()}
    tensors |= {f"head.classifier.{name}": value[columns] for name, value in net.classifier.state_dict().items()}
    config = StudentConfig(
        kind="vit",
        head={"kind": "linear", "in": net.config.hidden_size},
        vit={name: getattr(net.config, name) for name in VIT_KEYS},
    )
    arrays = {name: value.detach().float().numpy() for name, value in tensors.items()}
    return write_student(folder, StudentParts(config=config, tensors=arrays, processor=base.processor))


class _VitTrainer:
    """All weights, by `finetune`; the result is answered with as a student folder, as any other model."""

    def __init__(
        self,
        model: BenchmarkedModel,
        recipes: Mapping[str, FinetuneRecipe],
        work: Path,
        device: str,
        batch_rows: int,
        report: Report,
    ) -> None:
        self.model, self.recipes, self.work = model, recipes, work
        self.device, self.batch_rows, self.report = device, batch_rows, report

    def __call__(self, task: Task) -> Trained:
        self.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.work, prefix=MEANWHILE) as name:
            folder = Path(name)
            base = self.model.folder if self.model.is_student else as_student(self.model, folder / "base")
            request = FinetuneRequest(
                base=base,
                kind="full",
                recipe=self.recipes[task.preset],
                images=[ImageRow(id=str(row), path=path) for row, path in enumerate(task.images)],
                classes=task.classes,
                train_rows=task.train_rows,
                val_rows=task.val_rows,
                out=folder / "work",
                device=self.device,
                seed=task.seed,
                checkpoint_every=0,
            )
            made = finetune(request, progress=lambda row: self.report(task.name, row))
            config = StudentConfig(kind="vit", head=made.head_config, vit=made.vit_config, resize=made.resize)
            student = write_student(
                folder / "student", StudentParts(config=config, tensors=made.tensors, processor=made.processor)
            )
            encoder = find_model(folder, str(student)).plan.build(device=self.device, share={})
            test = [task.images[row] for row in task.test_rows.tolist()]
            answers = answer_images(encoder, test, batch_rows=self.batch_rows)
        gone = {int(image.id): image.reason for image in made.left_out}
        left_out = {str(task.images[row]): reason for row, reason in gone.items()}
        n_train = len(task.train_rows) - len(gone.keys() & set(task.train_rows.tolist()))
        return Trained(answers=answers, n_train=n_train, left_out=left_out, best=dict(made.best))


class _ProbeTrainer:
    """The head alone, on vectors of the frozen base; each image is looked at once, however many tasks have it."""

    def __init__(
        self, model: BenchmarkedModel, recipes: Mapping[str, FinetuneRecipe], device: str, batch_rows: int
    ) -> None:
        self.recipes, self.batch_rows = recipes, batch_rows
        self.backbone: Any = model.plan.build(device=device, share={}).backbone
        self.looks: dict[Path, Look] = {}

    def __call__(self, task: Task) -> Trained:
        self._look(task)
        looks = [self.looks[path] for path in task.images]
        usable = np.array([look.status == OK for look in looks], dtype=bool)
        train, val = (rows[usable[rows]] for rows in (task.train_rows, task.val_rows))
        rows = np.concatenate([task.train_rows, task.val_rows])
        left_out = {str(task.images[row]): looks[row].status for row in rows[~usable[rows]].tolist()}
        vectors = np.zeros((len(looks), self._width()), dtype=np.float32)
        for row, look in enumerate(looks):
            if look.values is not None:
                vectors[row] = look.values["vector"]
        head = copy.deepcopy(self.backbone.head).cpu()
        learned: Learned = train_head(
            head,
            vectors,
            task.classes,
            self.recipes[task.preset],
            train_rows=train,
            val_rows=val,
            seed=task.seed,
        )
        test = [looks[row] for row in task.test_rows.tolist()]
        probabilities = answer_by_head(learned.head, vectors[task.test_rows])
        probabilities[~usable[task.test_rows]] = np.nan
        answers = Answers(
            probabilities=probabilities,
            statuses=tuple(look.status for look in test),
            details=tuple(look.detail for look in test),
            digests=tuple(look.digest for look in test),
        )
        return Trained(answers=answers, n_train=len(train), left_out=left_out, best=learned.best)

    def _look(self, task: Task) -> None:
        images = [path for path in dict.fromkeys(task.images) if path not in self.looks]
        base = _Base(self.backbone)
        for look in look_at(base, base.read, images, batch_rows=self.batch_rows):
            self.looks[images[look.row]] = look

    def _width(self) -> int:
        return int(self.backbone.body.width)


class _Base:
    """What lies below a probe's head, as a backbone."""

    inputs: tuple[str, ...] = ("image",)

    def __init__(self, student: Any) -> None:
        self.prepare, self.batch_key = student.prepare, student.batch_key
        self._body = student.body

    def forward(self, batch: Sequence[Any]) -> Outputs:
        vectors: Array = self._body.forward(batch).cpu().numpy()
        return {"vector": vectors}

    def read(self, outputs: Outputs, batch: Sequence[Any]) -> list[RowValues]:
        return [
            {"vector": vector} if np.isfinite(vector).all() else DataError("the base gives no vector for it")
            for vector in outputs["vector"]
        ]
