"""The steps of one fine-tuning and what must be remembered between them: loss, validation, checkpoint, result.

Built on parts that each know one thing; `finetune` prepares them. Reads no test image and writes no student folder.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sentifuse import ResourceError, TrainingError
from sentifuse.crowd.finetune.checkpoints import Checkpoints
from sentifuse.crowd.finetune.images import Square, Squares, default_threads, stream
from sentifuse.crowd.finetune.log import FinetuneLog
from sentifuse.crowd.finetune.lora import attach_adapters, merge_adapters
from sentifuse.crowd.finetune.network import Base, VitStudent, build_student
from sentifuse.crowd.finetune.optimiser import build_optimiser, set_rates
from sentifuse.crowd.finetune.pace import Pace
from sentifuse.crowd.finetune.recipe import Finetuned, FinetuneRequest, LeftOut
from sentifuse.crowd.finetune.request import some, targets_of
from sentifuse.crowd.finetune.schedule import Plan
from sentifuse.crowd.scores import is_better, score
from sentifuse.crowd.targets import row_losses, row_weights, smooth_targets, soften
from sentifuse.fuse.precision import rounded_products

__all__ = ["Training"]

IntArray = npt.NDArray[np.int64]
Row = Mapping[str, Any]
Hear = Callable[[Row], None] | None

# Shapes: B images of a step, V of the validation part, P side of a square in pixels, K = 3 classes.


class Training:
    """The state of one training, from which checkpoints are written; the rows of its logs are the log's.

    Draws from torch's global generator: the caller seeds it. `run`, after `restore` where there is a checkpoint, then
    `result`.

    Parameters
    ----------
    train_rows, val_rows
        The request's, without images that cannot be used.
    precision
        "float32" or "bfloat16".
    """

    def __init__(
        self,
        request: FinetuneRequest,
        base: Base,
        checkpoints: Checkpoints,
        log: FinetuneLog,
        *,
        device: torch.device,
        precision: str,
        train_rows: IntArray,
        val_rows: IntArray,
        left_out: tuple[LeftOut, ...],
    ) -> None:
        self.request, self.recipe, self.device, self.precision = request, request.recipe, device, precision
        self.checkpoints, self.log = checkpoints, log
        self.left_out, self.val_rows = left_out, val_rows
        self.plan = Plan(recipe=self.recipe, train_rows=train_rows, seed=request.seed)
        self.squares = Squares(
            side_px=base.side_px,
            resample=int(base.processor["resample"]),
            resize=base.resize,
            crop_min=self.recipe.crop_min,
        )
        self.resize = base.resize
        self.hard = smooth_targets(request.classes, self.recipe.label_smoothing)
        self.soft = None
        if self.recipe.alpha < 1 and request.probabilities is not None:
            self.soft = soften(request.probabilities, self.recipe.temperature)
        self.weights = row_weights(targets_of(request), train_rows, is_balanced=self.recipe.is_balanced)
        self.threads = request.loader_threads or default_threads()
        student = build_student(base, self.recipe)
        self.adapted: list[str] = []
        if request.kind == "lora":
            recipe = self.recipe
            self.adapted = attach_adapters(
                student.vit, rank=recipe.lora_rank, alpha=recipe.lora_alpha, dropout=recipe.lora_dropout
            )
        self.student: VitStudent = student.to(device)
        self.optimiser = build_optimiser(self.student, self.recipe, device)
        self.step = 0
        self.is_finished = False
        self.waited = 0  # validations without a better one
        self.since_validation = {"loss": 0.0, "images": 0}
        self.since_log = {"loss": 0.0, "images": 0}
        self.best: dict[str, Any] | None = None
        self.best_file = ""
        self.val_logits = np.zeros((0, 3), dtype=np.float32)
        self.seconds = 0.0
        self.images_seen = 0

    def run(self, progress: Hear) -> None:
        """All steps from here to the end."""
        with Pace(self.device) as pace:
            while not self.is_finished:
                self._run_epoch(pace, progress)
        self.seconds += pace.seconds
        self.images_seen += pace.images

    def _run_epoch(self, pace: Pace, progress: Hear) -> None:
        """The rest of the pass that stands at `step`."""
        epoch = self.plan.epoch_of(self.step)
        seed = self.request.seed

        def chance(row: int) -> np.random.Generator:
            return np.random.default_rng((seed, epoch, row))

        batches = stream(
            self.request.images,
            self.plan.rows_from(self.step),
            self.squares,
            threads=self.threads,
            chance=chance if self.recipe.is_augmented else None,
        )
        with closing(batches):
            for rows, squares in pace.waiting_for(batches):
                self._take_step(rows, squares)
                pace.add(len(rows))
                step, self.step = self.step, self.step + 1
                is_last = self.step == self.plan.steps
                if self.request.log_every and (self.step % self.request.log_every == 0 or is_last):
                    self._log_steps(step, pace, progress)
                with pace.pause():
                    if self.plan.is_epoch_end(step) or _is_due(self.step, self.recipe.validate_every):
                        self._validate(step, pace, progress)
                        self.is_finished = self.is_finished or is_last
                        self._write_checkpoint(pace)
                    elif _is_due(self.step, self.request.checkpoint_every):
                        self._write_checkpoint(pace)
                if self.is_finished:
                    return

    def _take(self, array: npt.NDArray[np.float32], rows: IntArray) -> Tensor:
        return torch.from_numpy(array[rows]).to(self.device)

    def _take_step(self, rows: IntArray, squares: Square) -> None:
        recipe = self.recipe
        is_frozen = self.plan.stage_of(self.step) == "head"
        set_rates(self.optimiser, recipe, self.plan.factor(self.step))
        self.student.train()
        size = recipe.micro_batch or len(rows)
        total = 0.0
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            with self._enough_memory(len(part)):
                logits = self._logits(squares[first : first + size], is_frozen=is_frozen)
                losses = row_losses(
                    logits,
                    self._take(self.hard, part),
                    None if self.soft is None else self._take(self.soft, part),
                    alpha=recipe.alpha,
                    temperature=recipe.temperature,
                    without_neutral=recipe.trains_without_neutral,
                )
                # Over all of the step's images, so that its parts add up to what one batch would have given.
                loss = (self._take(self.weights, part) * losses).sum() / len(rows)
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
                total += loss.item()
        if not math.isfinite(total):
            ids = [self.request.images[row].id for row in rows.tolist()]
            raise TrainingError(
                f"step {self.step + 1}: the loss is {total}, expected a finite number. Images of this step: "
                f"{some(ids)}. Lower the step size (--set learning_rate=1e-5), or look at these images"
            )
        if recipe.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), recipe.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for sums in (self.since_validation, self.since_log):
            sums["loss"] += total * len(rows)
            sums["images"] += len(rows)

    def _logits(self, squares: Square, *, is_frozen: bool = False) -> torch.Tensor:
        """float32 (B, K) of squares (B, P, P, 3)."""
        pixels = torch.from_numpy(np.ascontiguousarray(squares))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        with rounded_products(self.precision, self.device):
            logits: torch.Tensor = self.student(pixels, is_frozen=is_frozen)
        return logits

    @contextmanager
    def _enough_memory(self, image_count: int) -> Iterator[None]:
        """Around all that needs the more memory the more images are on the device at a time."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self.device}: too little memory for {image_count} images of {self.squares.side_px} pixels at a "
                f"time. Halve them: --set micro_batch={max(1, image_count // 2)} (the result stays the same up to "
                "rounding, and a stopped training goes on with it)"
            ) from error

    def _validate(self, step: int, pace: Pace, progress: Hear) -> None:
        """One row of the history; better weights than before are put aside."""
        found: dict[str, Any] = {"val_loss": None, "val_accuracy": None, "val_macro_f1": None}
        logits = self._infer(self.val_rows)
        if len(self.val_rows):
            classes = self.request.classes[self.val_rows]
            is_binary = self.recipe.scores_without_neutral or self.recipe.trains_without_neutral
            found = score(logits, classes, without_neutral=is_binary)
        is_best = is_better(found, self.best or {}, self.recipe.select)
        if is_best:
            self.val_logits = logits
        # The head alone is no reason to give up: the second stage begins to wait anew.
        self.waited = 0 if is_best or self.plan.stage_of(step) == "head" else self.waited + 1
        row = {
            "step": step + 1,
            "epoch": self.plan.epoch_of(step),
            "stage": self.plan.stage_of(step),
            "train_loss": self.since_validation["loss"] / self.since_validation["images"],
            **found,
            "is_best": is_best,
            "learning_rate": self._rate(step),
            "seconds": round(pace.seconds + self.seconds, 3),
        }
        self.since_validation = {"loss": 0.0, "images": 0}
        if is_best:
            self.best = row
            if self.recipe.select != "last":
                self.best_file = self.checkpoints.write_best(step + 1, self._trained())
        self.is_finished = 0 < self.recipe.patience <= self.waited
        self.log.add_validation(row)
        if progress is not None:
            progress(row)

    def _infer(self, rows: IntArray) -> npt.NDArray[np.float32]:
        """Logits (V, K) of images as the student will see them: no augmentation, no dropout."""
        self.student.eval()
        size = self.recipe.micro_batch or self.recipe.batch_size
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        found = [np.zeros((0, 3), dtype=np.float32)]
        with torch.no_grad(), closing(stream(self.request.images, batches, self.squares, threads=self.threads)) as all_:
            for part, squares in all_:
                with self._enough_memory(len(part)):
                    found.append(self._logits(squares).cpu().numpy())
        return np.concatenate(found)

    def _rate(self, step: int) -> float:
        """Of the head while it is alone, of everything below it afterwards."""
        stage = self.plan.stage_of(step)
        rate = self.recipe.head_learning_rate if stage == "head" else self.recipe.learning_rate
        return rate * self.plan.factor(step)

    def _log_steps(self, step: int, pace: Pace, progress: Hear) -> None:
        row = {
            "step": step + 1,
            "epoch": self.plan.epoch_of(step),
            "stage": self.plan.stage_of(step),
            "loss": self.since_log["loss"] / self.since_log["images"],
            "learning_rate": self._rate(step),
            **pace.measure(),
        }
        self.since_log = {"loss": 0.0, "images": 0}
        self.log.add_step(row)
        if progress is not None:
            progress(row)

    def _trained(self) -> dict[str, torch.Tensor]:
        """Weights that the training changes, by name; of `lora` the adapters and the head alone."""
        wanted = {name for name, value in self.student.named_parameters() if value.requires_grad}
        return {name: value for name, value in self.student.state_dict().items() if name in wanted}

    def _write_checkpoint(self, pace: Pace) -> None:
        state = {
            "step": self.step,
            "is_finished": self.is_finished,
            "waited": self.waited,
            "since_validation": self.since_validation,
            "since_log": self.since_log,
            "best": self.best,
            "best_file": self.best_file,
            "val_logits": torch.from_numpy(self.val_logits),
            "history": self.log.history,
            "steps": self.log.steps,
            "seconds": self.seconds + pace.seconds,
            "images_seen": self.images_seen + pace.images,
            "left_out": [[image.id, image.path, image.reason, image.detail] for image in self.left_out],
            "weights": self._trained(),
            "optimiser": self.optimiser.state_dict(),
            "generator": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        self.checkpoints.write(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where a checkpoint was written."""
        for name in ("step", "is_finished", "waited", "since_validation", "since_log", "best", "best_file", "seconds"):
            setattr(self, name, state[name])
        self.images_seen = state["images_seen"]
        self.val_logits = state["val_logits"].numpy()
        self._fill(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda" and "cuda_generator" in state:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)

    def _fill(self, weights: Mapping[str, torch.Tensor]) -> None:
        own = self._trained()
        assert own.keys() == weights.keys()  # the checkpoint's identity says so
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    def result(self) -> Finetuned:
        """The selected weights, adapters merged."""
        if self.best_file:
            self._fill(self.checkpoints.read_best(self.best_file))
        trained = sum(value.numel() for value in self._trained().values())
        if self.request.kind == "lora":
            merge_adapters(self.student.vit)
        assert self.best is not None  # every pass ends with a validation
        return Finetuned(
            vit_config=self.student.vit_config(),
            head_config=self.student.head_config,
            processor=self.student.processor,
            resize=self.resize,
            tensors=self.student.tensors(),
            history=self.log.history,
            best=self.best,
            left_out=self.left_out,
            val_logits=self.val_logits,
            val_rows=self.val_rows,
            notes={
                "precision": self.precision,
                "device": str(self.device),
                "adapted": self.adapted,
                "trained_weights": trained,
                "steps": self.step,
                "seconds": round(self.seconds, 3),
                "images_seen": self.images_seen,
            },
        )


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
