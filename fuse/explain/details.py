"""A head's details become reasons: the generic path, which goes by names and shapes, and what every path shares.

Detail names with a meaning here, B first: word… (B, n), region… (B, m), region… (B, n, m), word… (B, m, n),
…_per_hop (B, hops, ·), …_logits and …_probabilities (B, K), and any (B,) of real numbers whose name ends in _weight or
_share. Vectors a head computes on the way say nothing to a person and are left out.
"""

# Shapes: n pieces of the text, m regions, K classes. A batch has one pair here, so an axis of length 1 stands for none.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from sentifuse.fuse.explain.explanation import Alignment, Numbers, Quantity, Reasons, Voice, Weights
from sentifuse.fuse.heads.head import Head
from sentifuse.fuse.infer import softmax

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One pair's details and what is known about it."""

    head: Head
    details: Mapping[str, torch.Tensor]  # a batch of one pair
    piece_count: int  # n
    region_count: int  # m
    classes: tuple[str, ...]
    label: str | None

    def has(self, name: str) -> bool:
        return name in self.details

    def array(self, name: str) -> Array:
        """A tensor of the pair, without its axis of pairs."""
        values: Array = self.details[name][0].detach().double().cpu().numpy()
        return values

    def number(self, name: str) -> float:
        return float(self.array(name))

    def flag(self, name: str) -> bool:
        return bool(self.array(name))


def read_details(answer: Answer) -> Reasons:
    """Whatever the details hold that a person can read."""
    weights = [found for name in answer.details for found in _weights(name, answer) if found.values]
    weights.sort(key=lambda found: "[" in found.name)  # earlier hops behind what counted in the end
    return Reasons(
        words=tuple(found for found in weights if found.over == "words"),
        region_weights=tuple(found for found in weights if found.over == "regions"),
        alignment=_alignment(answer),
        voices=tuple(_voices(answer)),
        quantities=tuple(_quantities(answer)),
    )


def _weights(name: str, answer: Answer) -> Iterator[Weights]:
    """The weights in one detail; of several hops those before the last, which has a detail of its own."""
    over = over_what(name)
    values = answer.array(name)
    if name == "region_attention" and values.ndim == 2 and answer.piece_count:
        yield weigh(name, "read by the words (mean)", "regions", values[: answer.piece_count].mean(0), answer)
    elif over is not None and "weights" in name and values.ndim == 1:
        yield weigh(name, spoken(name), over, values, answer)
    elif over is not None and name.endswith("_per_hop") and values.ndim == 2:
        for hop, row in enumerate(values[:-1]):
            title = f"{spoken(name.removesuffix('_per_hop'))}, hop {hop + 1}"
            yield weigh(f"{name}[{hop}]", title, over, row, answer)


def _alignment(answer: Answer) -> Alignment | None:
    name = "word_attention"
    if not (answer.has(name) and answer.piece_count and answer.region_count):
        return None
    return align(name, "which words each region reads", answer.array(name), answer)


def _voices(answer: Answer) -> Iterator[Voice]:
    for name in answer.details:
        values = answer.array(name)
        if values.shape != (len(answer.classes),):
            continue
        if name.endswith("_logits"):
            yield voice(name, f"{spoken(name.removesuffix('_logits'))} alone", softmax(values[None])[0])
        elif name.endswith("_probabilities"):
            yield voice(name, f"{spoken(name.removesuffix('_probabilities'))} alone", values)


def _quantities(answer: Answer) -> Iterator[Quantity]:
    for name in answer.details:
        values = answer.array(name)
        if values.ndim == 0 and name.endswith(("_weight", "_share")):
            yield Quantity(name=name, title=spoken(name), kind="share", value=float(values))


def weigh(name: str, title: str, over: Literal["words", "regions", "both"], values: Array, answer: Answer) -> Weights:
    """The weights of the pieces or regions that are there; whatever a tensor holds behind them is cut off."""
    count = {"words": answer.piece_count, "regions": answer.region_count, "both": 1 + answer.piece_count}[over]
    return Weights(name=name, title=title, over=over, values=numbers(values[:count]))


def align(name: str, title: str, values: Array, answer: Answer) -> Alignment:
    """An alignment (m, n) of the pieces and regions that are there."""
    rows = values[: answer.region_count, : answer.piece_count]
    return Alignment(name=name, title=title, values=tuple(numbers(row) for row in rows))


def voice(name: str, title: str, probabilities: Array) -> Voice:
    return Voice(name=name, title=title, probabilities=numbers(probabilities))


def numbers(values: Array) -> Numbers:
    """The same numbers as Python's own, so that equality means equality."""
    return tuple(values.tolist())


def spoken(name: str) -> str:
    """A detail's name in words.

    >>> spoken("word_weights_by_object")
    'word weights by object'
    """
    return name.replace("_", " ")


def over_what(name: str) -> Literal["words", "regions"] | None:
    """What a detail of this name has one number for each of, if its name says so."""
    return "words" if name.startswith("word") else "regions" if name.startswith("region") else None
