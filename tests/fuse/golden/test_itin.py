"""ITIN's golden files catch the mistakes one makes: each is put in, and some row fails."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sentifuse.fuse.golden import itin as itin_golden
from sentifuse.fuse.golden.file import read_golden
from sentifuse.fuse.golden.rule import INPUT_BOUND, integers, parameter, reals
from sentifuse.fuse.heads import itin, itin_authors
from sentifuse.fuse.heads.itin import Itin, ItinConfig
from sentifuse.fuse.layers.masked import masked_softmax

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"
WORD_COUNT = 7  # n of both files; no other axis has this length
Patch = Callable[[pytest.MonkeyPatch], None]


def failing(kind: str) -> list[str]:
    check = {"itin_paper": itin_golden.check_paper, "itin_code": itin_golden.check_code}[kind]
    return [f"{row.stage} {row.quantity}" for row in check(read_golden(GOLDEN / f"{kind}_s1.npz")) if not row.is_within]


def over_words(change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Patch:
    """The softmax over words replaced, the one over regions left alone."""

    def softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return change(scores, mask) if scores.shape[-1] == WORD_COUNT else masked_softmax(scores, mask)

    return lambda patch: patch.setattr(itin, "masked_softmax", softmax)


def other_config(**settings: Any) -> Patch:
    """The head built with other settings than the file's kind asks for."""

    def make(**asked: Any) -> ItinConfig:
        return ItinConfig(**{**asked, **settings})

    return lambda patch: patch.setattr(itin_golden, "ItinConfig", make)


def swapped_gates(patch: pytest.MonkeyPatch) -> None:
    other = {"scalar": "vector", "vector": "scalar"}
    patch.setattr(itin_golden, "ItinConfig", lambda **asked: ItinConfig(**{**asked, "gate": other[asked["gate"]]}))


def other_words(combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *, packed: bool = True) -> Patch:
    """Both directions joined otherwise, or run over the pads too."""

    def encode(self: Itin, gru: torch.nn.GRU, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if packed:
            lengths = mask.sum(1).clamp_min(1)
            pack = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(gru(pack)[0], batch_first=True, total_length=x.shape[1])
        else:
            states = gru(x)[0]
        return combine(*states.chunk(2, dim=-1))

    return lambda patch: patch.setattr(Itin, "_encode_words", encode)


def gates_exchanged(patch: pytest.MonkeyPatch) -> None:
    """Order z, r, n of the rows, not r, z, n."""
    encode = Itin._encode_words

    def other(self: Itin, gru: torch.nn.GRU, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        gru = copy.deepcopy(gru)
        for weight in gru.parameters():
            r, z, n = weight.detach().clone().chunk(3)
            weight.data = torch.cat([z, r, n])
        return encode(self, gru, x, mask)

    patch.setattr(Itin, "_encode_words", other)


def summed_loss(patch: pytest.MonkeyPatch) -> None:
    cross_entropy = torch.nn.functional.cross_entropy
    patch.setattr(Itin, "loss", lambda self, output, batch: cross_entropy(output.logits, batch.labels, reduction="sum"))


def no_residual(patch: pytest.MonkeyPatch) -> None:
    interact = Itin._interact

    def without(self: Itin, r: torch.Tensor, *others: Any) -> torch.Tensor:
        pooled = interact(self, r, *others)
        details = others[-1]
        return pooled - torch.einsum("bm,bmd->bd", details["pool_weights"], details["region"])

    patch.setattr(Itin, "_interact", without)


def unscaled(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return masked_softmax(scores * 12**0.5, mask)  # k = 12 in the paper's file


PAPER: dict[str, Patch] = {
    "softmax over regions": over_words(lambda scores, mask: scores.softmax(-2)),
    "no sqrt(k)": over_words(unscaled),
    "pads take attention": over_words(lambda scores, mask: scores.softmax(-1)),
    "masked after the softmax only": over_words(lambda scores, mask: scores.softmax(-1) * mask),
    "gate of the other reading": swapped_gates,
    "pads count in the mean": lambda patch: patch.setattr(itin, "masked_mean", lambda values, mask: values.mean(1)),
    "backward GRU begins at pads": other_words(lambda a, b: (a + b) / 2, packed=False),
    "directions summed": other_words(lambda a, b: a + b),
    "forward direction alone": other_words(lambda a, b: a),
    "directions exchanged": other_words(lambda a, b: (a + b.flip(1)) / 2),
    "gates of the GRU exchanged": gates_exchanged,
    "λ on the textual side": other_config(visual_weight=0.8),
    "C before V and S": other_config(interaction_first=True),
    "unit vectors": other_config(unit_length=True),
    "no residual": no_residual,
    "loss summed": summed_loss,
}


@pytest.mark.parametrize("mistake", PAPER)
def test_mistake_in_the_equations_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PAPER[mistake](monkeypatch)
    assert failing("itin_paper")


def unscaled_regrouping(self: itin_authors.Regroup, messages: torch.Tensor, has_region: torch.Tensor) -> torch.Tensor:
    scores = self.query(messages) @ self.key(messages).transpose(1, 2)
    return masked_softmax(scores, has_region[:, None, :]) @ messages


def one_gru(patch: pytest.MonkeyPatch) -> None:
    encode = Itin._encode_words
    patch.setattr(Itin, "_encode_words", lambda self, gru, x, mask: encode(self, self.word_gru, x, mask))


def first_pooling_head(patch: pytest.MonkeyPatch) -> None:
    def softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = masked_softmax(scores, mask)
        return weights[:, :1] if scores.shape[1:] == (4, 2) else weights

    patch.setattr(itin, "masked_softmax", softmax)


CODE: dict[str, Patch] = {
    "regrouping without sqrt(d)": lambda patch: patch.setattr(itin_authors.Regroup, "forward", unscaled_regrouping),
    "no regrouping": lambda patch: patch.setattr(
        itin_authors.Regroup, "forward", lambda self, messages, mask: messages
    ),
    "not of unit length": other_config(unit_length=False),
    "divided by the squared length": lambda patch: patch.setattr(
        itin, "unit_length", lambda x: x / ((x * x).sum(-1, keepdim=True) + itin_authors.TINY)
    ),
    "one pooling head of four": first_pooling_head,
    "V and S before C": other_config(interaction_first=False),
    "vector gate": other_config(gate="vector"),
    "S from the words of the alignment": one_gru,
    "one gate order for another": gates_exchanged,
    "directions summed": other_words(lambda a, b: a + b),
    "λ on the textual side": other_config(visual_weight=0.8),
    "no residual": no_residual,
    "softmax over regions": over_words(lambda scores, mask: scores.softmax(-2)),
    "loss summed": summed_loss,
}


@pytest.mark.parametrize("mistake", CODE)
def test_mistake_in_the_authors_program_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CODE[mistake](monkeypatch)
    assert failing("itin_code")


def test_file_of_another_seed_is_recomputed_from_its_own_numbers() -> None:
    golden = read_golden(GOLDEN / "itin_code_s1.npz")
    values = dict(golden.values)
    for name, value in golden.values.items():
        if name == "input.label":
            values[name] = integers(12, "itin.label", value.shape, 3)
        elif name.startswith("input."):
            values[name] = reals(12, name.replace("input", "itin"), value.shape, INPUT_BOUND)
        elif name.startswith("param."):
            values[name] = parameter(12, f"itin_code.{name}", value.shape)
    rows = itin_golden.check_code(replace(golden, values=values))
    assert rows[0].quantity == "seed 12: arrays unlike the rule"
    assert rows[0].is_within
    assert not any(row.is_within for row in rows if row.quantity in ("logits", "C", "loss"))  # still those of seed 1
