"""Logistic regression on the pooled text and image vectors: the baseline that a fusion head has to beat.

scikit-learn learns it; the learned numbers are kept as torch buffers, so that saving, loading and evaluating take the
same path as every other head. Its C is chosen on the validation part from a fixed grid and is never weakened.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from sentifuse import TrainingError
from sentifuse.fuse.config import check_settings, setting
from sentifuse.fuse.features.batches import Batch, BatchSource, FieldRequest
from sentifuse.fuse.heads.head import Head, HeadOutput
from sentifuse.fuse.heads.pooled import pool
from sentifuse.fuse.layers.standardise import CONSTANT

# Shapes: N pairs, D = Dx + Dv, K classes.

GRID = (
    1e-5,
    3e-5,
    1e-4,
    3e-4,
    1e-3,
    3e-3,
    1e-2,
    3e-2,
    1e-1,
    3e-1,
    1.0,
    3.0,
    10.0,
)  # inverse strength of the L2 penalty
FIT_BATCH = 256
TOLERANCE = 1e-5  # of the largest slope of the mean loss: scikit-learn's own, a tenth of its default
ROUGH = 1.2  # times the tolerance: how far the way is gone in single precision


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearFit:
    """A logistic regression and what it reached on the validation part."""

    weight: Any  # (K, D)
    bias: Any  # (K,)
    c: float
    val_accuracy: float
    val_loss: float
    iterations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRegConfig:
    """Settings of the logistic regression."""

    c: float | None = setting(None, "inverse strength of the L2 penalty; none: chosen from the grid", low=1e-9)
    max_iterations: int = setting(20000, "limit of L-BFGS; a fit that reaches it is refused", low=1)

    def __post_init__(self) -> None:
        check_settings(self)


class LogReg(Head):
    """Multinomial logistic regression on standardised [mean of token states ; context vector]."""

    description = "logistic regression on [mean token state ; context vector], C chosen on validation"
    needs: ClassVar[tuple[FieldRequest, ...]] = (
        FieldRequest(encoder="tokens", field="states"),
        FieldRequest(encoder="context", field="vector"),
    )
    Config = LogRegConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    has_closed_fit = True

    config: LogRegConfig
    mean: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    c: torch.Tensor

    def __init__(self, config: LogRegConfig, widths: Mapping[str, int], class_count: int) -> None:
        super().__init__(config, widths, class_count)
        width = sum(widths[request.key] for request in self.needs)
        # float64: scikit-learn learns in it, and the same numbers must come out of forward.
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(width, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(class_count, width, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(class_count, dtype=torch.float64))
        self.register_buffer("c", torch.zeros((), dtype=torch.float64))

    def forward(self, batch: Batch) -> HeadOutput:
        """Logits (B, K) in float64; a missing modality counts as its mean, that is 0 after standardisation."""
        self.check_widths(batch)
        x = torch.cat(
            [((v - m) / s).masked_fill(~has_value[:, None], 0.0) for v, has_value, m, s in self._parts(batch)], -1
        )
        return HeadOutput(logits=x @ self.weight.T + self.bias)

    def fit(self, train: BatchSource, val: BatchSource) -> list[dict[str, Any]]:
        """Learn every C of the grid on `train`, keep the best validation accuracy (ties: the lower log-loss)."""
        x_raw, has_value, y = self._pooled(train)
        x_val_raw, has_value_val, y_val = self._pooled(val)
        found = [find_scale(x_raw[:, part], has_value[:, i]) for i, part in enumerate(self._columns())]
        mean, scale = (np.concatenate(numbers) for numbers in zip(*found, strict=True))
        x, x_val = (x_raw - mean) / scale, (x_val_raw - mean) / scale
        for i, part in enumerate(self._columns()):  # as in forward: a missing modality counts as its mean
            x[~has_value[:, i], part] = x_val[~has_value_val[:, i], part] = 0.0
        fits = fit_grid(
            x,
            y,
            x_val,
            y_val,
            c=self.config.c,
            max_iterations=self.config.max_iterations,
            class_count=self.class_count,
            where="logreg",
        )
        best = best_fit(fits)
        for buffer, value in (
            (self.mean, mean),
            (self.scale, scale),
            (self.weight, best.weight),
            (self.bias, best.bias),
        ):
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        self.c.fill_(best.c)
        return [
            {"c": f.c, "val_accuracy": f.val_accuracy, "val_loss": f.val_loss, "iterations": f.iterations} for f in fits
        ]

    def _parts(self, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        parts = []
        for request, part in zip(self.needs, self._columns(), strict=True):
            values = batch.values[request.key].to(self.mean)
            vector, has_value = pool(replace(batch, values={request.key: values}), request.key)
            parts.append((vector, has_value, self.mean[part], self.scale[part]))
        return parts

    def _columns(self) -> list[slice]:
        """Where each modality's vector stands in x."""
        ends = np.cumsum([self.widths[request.key] for request in self.needs]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _pooled(self, source: BatchSource) -> tuple[Any, Any, Any]:
        """x (N, D) float64 before standardisation, which modalities each pair has (N, 2), y (N,)."""
        if source.labels is None:
            raise ValueError("logistic regression needs labels")
        x = np.zeros((len(source), self.mean.numel()))
        has_value = np.zeros((len(source), len(self.needs)), dtype=bool)
        for rows, batch in source.batches(FIT_BATCH):
            parts = self._parts(batch)
            x[rows] = torch.cat([vector for vector, _, _, _ in parts], -1).numpy()
            has_value[rows] = torch.stack([is_there for _, is_there, _, _ in parts], 1).numpy()
        return x, has_value, source.labels


def find_scale(x: Any, has_value: Any) -> tuple[Any, Any]:
    """Mean and deviation (D,) of every feature of x (N, D) over the rows that have a value, (N,) bool.

    Deviation 1 where a feature never varies; mean 0 and deviation 1 where no row has a value.
    """
    if not has_value.any():
        return np.zeros(x.shape[1]), np.ones(x.shape[1])
    x = x[has_value]
    mean, scale = x.mean(0), x.std(0)
    scale[scale <= CONSTANT * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return mean, scale


def fit_grid(
    x: Any, y: Any, x_val: Any, y_val: Any, *, c: float | None, max_iterations: int, class_count: int, where: str
) -> list[LinearFit]:
    """One fit for every C of the grid, or for `c` alone; x and x_val are standardised.

    Raises
    ------
    TrainingError
        A fit does not converge.
    """
    model = LogisticRegression(max_iter=max_iterations, tol=TOLERANCE, warm_start=True)
    rough = x.astype(np.float32) if c is None else None
    found: list[tuple[Any, Any]] = []  # coefficients and intercepts, from strong to weak penalty
    fits = []
    for strength in GRID if c is None else (c,):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # refused below, in plain words
            model.set_params(C=strength)
            n_rough = 0 if rough is None else _come_near(model, rough, y, found)
            model.fit(x, y)
        found.append((model.coef_, model.intercept_))
        if model.n_iter_[0] >= max_iterations:
            raise TrainingError(
                f"{where}, C = {strength:g}: not converged after {model.n_iter_[0]} iterations, so it would be a "
                "weakened baseline. Raise the limit: --set max_iterations=100000"
            )
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # two classes: scikit-learn keeps the logit of the second alone
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        fits.append(
            LinearFit(
                weight=weight.copy(),
                bias=bias.copy(),
                c=strength,
                val_accuracy=float(accuracy_score(y_val, model.predict(x_val))),
                val_loss=float(log_loss(y_val, model.predict_proba(x_val), labels=np.arange(class_count))),
                iterations=n_rough + int(model.n_iter_[0]),
            )
        )
    return fits


def _come_near(model: LogisticRegression, rough: Any, y: Any, found: Sequence[tuple[Any, Any]]) -> int:
    """Leave the model near the end of its next fit, at half the cost; how many steps that took.

    The Cs of the grid are equal steps of its logarithm, along which the solution moves nearly straight: the start is as
    far beyond the last solution as that is beyond the one before. The steps are bound by memory, so single precision
    takes half the time; the caller then ends in double precision by the same criterion, and that alone counts.
    """
    if len(found) > 1:
        (before, bias_before), (last, bias_last) = found[-2:]
        model.coef_, model.intercept_ = 2 * last - before, 2 * bias_last - bias_before
    model.set_params(tol=ROUGH * TOLERANCE).fit(rough, y)
    model.set_params(tol=TOLERANCE)
    model.coef_, model.intercept_ = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    return int(model.n_iter_[0])


def best_fit(fits: Sequence[LinearFit]) -> LinearFit:
    """The highest validation accuracy, then the lowest log-loss."""
    return max(fits, key=lambda fit: (fit.val_accuracy, -fit.val_loss))
