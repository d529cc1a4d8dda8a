"""Late fusion: one logistic regression per modality, and the mean of their probabilities. The twin of `logreg`, which
joins the vectors before it.

It stands near DNN-LR (Yu et al. 2016: a text and an image network with logistic regression); how the two are joined
there is not known, so this head does not bear its name. scikit-learn learns each voice; its C is chosen by its own
accuracy on the validation part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.metrics import accuracy_score, log_loss

from sentifuse.fuse.config import check_settings, setting
from sentifuse.fuse.features.batches import Batch, BatchSource
from sentifuse.fuse.heads.baseline import CONTEXT, CONTEXT_VECTOR, TOKENS_STATES, WORDS
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.heads.logreg import FIT_BATCH, best_fit, find_scale, fit_grid
from sentifuse.fuse.heads.pooled import pool

# Shapes: N or B pairs, D width of a modality's vector, K classes.

VOICES = {"text": WORDS, "image": CONTEXT}
SHARES = np.linspace(0.0, 1.0, 11)  # of the image, tried with `weighted`


@dataclass(frozen=True, slots=True, kw_only=True)
class LateLrConfig:
    """Settings of late fusion."""

    weighted: bool = setting(False, "the image's share is chosen on validation from 0, 0.1, … 1, instead of a half")
    c: float | None = setting(None, "inverse strength of both L2 penalties; none: chosen from the grid", low=1e-9)
    max_iterations: int = setting(20000, "limit of L-BFGS; a fit that reaches it is refused", low=1)

    def __post_init__(self) -> None:
        check_settings(self)


class Voice(torch.nn.Module):
    """A learned logistic regression on one standardised vector, in float64."""

    mean: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    c: torch.Tensor

    def __init__(self, width: int, class_count: int) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {"mean": (width,), "scale": (width,), "c": ()}
        shapes |= {"weight": (class_count, width), "bias": (class_count,)}
        for name, shape in shapes.items():
            fill = torch.ones if name == "scale" else torch.zeros
            self.register_buffer(name, fill(shape, dtype=torch.float64))

    def forward(self, vectors: torch.Tensor, has_value: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of raw vectors (B, D); the bias alone where there is none, (B,)."""
        standardised = ((vectors - self.mean) / self.scale).masked_fill(~has_value[:, None], 0.0)
        return standardised @ self.weight.T + self.bias

    def learn(self, train: "Given", val: "Given", *, config: LateLrConfig, where: str) -> None:
        """Fit on the training part, choose C on the validation part; what is missing counts as its mean, as above."""
        mean, scale = find_scale(train.x, train.has_value)
        x, x_val = (np.where(part.has_value[:, None], (part.x - mean) / scale, 0.0) for part in (train, val))
        best = best_fit(
            fit_grid(
                x,
                train.y,
                x_val,
                val.y,
                c=config.c,
                max_iterations=config.max_iterations,
                class_count=len(self.bias),
                where=where,
            )
        )
        found = {"mean": mean, "scale": scale, "weight": best.weight, "bias": best.bias, "c": best.c}
        for name, value in found.items():
            getattr(self, name).copy_(torch.as_tensor(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What one voice is given of a part."""

    x: Any  # (N, D) float64, zero where there is none
    has_value: Any  # (N,) bool
    y: Any  # (N,)


class LateLr(Head):
    """The mean of two voices; where a modality is missing, the other voice alone."""

    description = "late fusion: a logistic regression per modality, the mean of their probabilities"
    needs = (TOKENS_STATES, CONTEXT_VECTOR)
    Config = LateLrConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    has_closed_fit = True

    config: LateLrConfig
    image_share: torch.Tensor

    def __init__(self, config: LateLrConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        self.text = Voice(widths[WORDS], class_count)
        self.image = Voice(widths[CONTEXT], class_count)
        self.register_buffer("image_share", torch.tensor(0.5, dtype=torch.float64))

    def forward(self, batch: Batch) -> HeadOutput:
        """Logarithms of the mixed probabilities (B, K) in float64.

        Returns
        -------
        HeadOutput
            `details`: text_probabilities and image_probabilities (B, K), image_share (B,), absent (B, 2).
        """
        self.check_widths(batch)
        (x, has_text), (v, has_image) = (_pooled(batch, key, self.image_share) for key in VOICES.values())
        text, image = self.text(x, has_text).log_softmax(-1), self.image(v, has_image).log_softmax(-1)  # (B, K)
        share = torch.where(has_text == has_image, self.image_share, has_image.to(self.image_share))  # (B,)
        parts = [text + (1 - share).log()[:, None], image + share.log()[:, None]]
        return HeadOutput(
            logits=torch.stack(parts).logsumexp(0),
            details={
                "text_probabilities": text.exp(),
                "image_probabilities": image.exp(),
                "image_share": share,
                "absent": torch.stack([~has_text, ~has_image], 1),
            },
        )

    def fit(self, train: BatchSource, val: BatchSource) -> list[dict[str, Any]]:
        """Learn both voices, then choose the share; one row for every share that was tried."""
        given, given_val = (_read(source, self.image_share) for source in (train, val))
        answers = []
        for name in VOICES:
            voice: Voice = getattr(self, name)
            voice.learn(given[name], given_val[name], config=self.config, where=f"late_lr, {name}")
            vectors, has_value = torch.from_numpy(given_val[name].x), torch.from_numpy(given_val[name].has_value)
            answers.append(voice(vectors, has_value).softmax(-1).numpy())
        (text, image), y_val = answers, val.labels
        is_whole = given_val["text"].has_value == given_val["image"].has_value
        history: list[dict[str, Any]] = []
        for share in SHARES if self.config.weighted else (0.5,):
            of_image = np.where(is_whole, share, given_val["image"].has_value)[:, None]  # as in forward
            mixed = (1 - of_image) * text + of_image * image
            history.append(
                {
                    "image_share": float(share),
                    "c_text": float(self.text.c),
                    "c_image": float(self.image.c),
                    "val_accuracy": float(accuracy_score(y_val, mixed.argmax(1))),
                    "val_loss": float(log_loss(y_val, mixed, labels=np.arange(self.class_count))),
                }
            )
        best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
        self.image_share.fill_(best["image_share"])
        return history


def _pooled(batch: Batch, key: str, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector of a modality (B, D) in the precision of `like`, and whether there is one (B,)."""
    return pool(replace(batch, values={key: batch.values[key].to(like)}), key)


def _read(source: BatchSource, like: torch.Tensor) -> dict[str, Given]:
    """What each voice is given of a part, by its name."""
    if source.labels is None:
        raise ValueError("logistic regression needs labels")
    x = {name: np.zeros((len(source), source.widths[key])) for name, key in VOICES.items()}
    has_value = {name: np.zeros(len(source), dtype=bool) for name in VOICES}
    for rows, batch in source.batches(FIT_BATCH):
        for name, key in VOICES.items():
            vector, is_there = _pooled(batch, key, like)
            x[name][rows], has_value[name][rows] = vector.numpy(), is_there.numpy()
    return {name: Given(x=x[name], has_value=has_value[name], y=source.labels) for name in VOICES}
