"""ITIN's golden files catch the mistakes one makes: each is put in, and some row fails."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse.fuse.batches import Batch
from sentifuse.fuse.config import resolve
from sentifuse.fuse.heads import itin, itin_authors, itin_golden
from sentifuse.fuse.heads.golden_file import compare, read_golden
from sentifuse.fuse.heads.golden_rule import INPUT_BOUND, integers, parameter, reals
from sentifuse.fuse.heads.head import masked_softmax
from sentifuse.fuse.heads.itin import CONTEXT, REGIONS, WORDS, Itin, ItinConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "heads"
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


def real_size(config: ItinConfig, stream: str, prefix: str, lengths: tuple[int, ...]) -> tuple[Itin, Batch, Any]:
    """The head and the inputs of itin_realsize_s1.json, made by the rule; and what the file says about them."""
    said = json.loads((GOLDEN / "itin_realsize_s1.json").read_text(encoding="utf-8"))
    sizes = said["inputs"]
    b, m, n = sizes["batch"], sizes["regions"], sizes["words"]
    shapes = {
        REGIONS: ("regions", (b, m, sizes["region_dim"])),
        WORDS: ("words", (b, n, sizes["word_dim"])),
        CONTEXT: ("context", (b, sizes["context_dim"])),
    }
    values = {k: torch.from_numpy(reals(1, f"itin.{name}", s, INPUT_BOUND)) for k, (name, s) in shapes.items()}
    masks = {
        REGIONS: torch.ones(b, m, dtype=torch.bool),
        WORDS: torch.arange(n)[None] < torch.tensor(lengths)[:, None],
        CONTEXT: torch.ones(b, dtype=torch.bool),
    }
    labels = torch.from_numpy(integers(1, "itin.label", (b,), sizes["classes"]))
    widths = {key: value.shape[-1] for key, value in values.items()}
    with torch.device("meta"):  # no time spent on initial values
        head = Itin(config, widths, sizes["classes"])
    state = {}
    for name in read_golden(GOLDEN / f"{prefix}_s1.npz").names("param."):
        ours = itin_golden.our_name(name)
        shape = head.get_parameter(ours).shape
        state[ours] = torch.from_numpy(parameter(1, f"{stream}.param.{name}", shape))
    head.load_state_dict(state, assign=True)
    return head.eval(), Batch(ids=("0", "1"), values=values, masks=masks, labels=labels), said


@pytest.mark.slow  # 79 million parameters
def test_authors_preset_at_its_real_width() -> None:
    config = resolve("itin", ItinConfig, Itin.PRESETS, preset="authors").head
    head, batch, said = real_size(replace(config, unmasked_length=10), "itin_code", "itin_code", (10, 10))
    with torch.no_grad():
        output = head(batch)
    expected = {name: np.array(value) for name, value in said["code_d1024"].items()}
    found = {
        "logits": output.logits,
        "gate": output.details["gate"],
        "C_norm": output.details["pooled"].norm(dim=-1),
        "S_norm": output.details["text_context"].norm(dim=-1),
    }
    assert [
        str(row) for name in expected if not (row := compare("d1024", name, found[name], expected[name])).is_within
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["scalar", "vector"])
def test_paper_preset_at_its_real_width(gate: str) -> None:
    config = resolve("itin", ItinConfig, Itin.PRESETS, preset="paper", overrides={"gate": gate}).head
    head, batch, said = real_size(config, "itin_paper", "itin_paper", (10, 6))
    with torch.no_grad():
        output = head(batch)
    expected = {name: np.array(value) for name, value in said[f"paper_d256_k256_{gate}"].items()}
    found = {
        "logits": output.logits,
        "C_norm": output.details["pooled"].norm(dim=-1),
        "S_norm": output.details["text_context"].norm(dim=-1),
        "loss": head.loss(output, batch),
    }
    assert [
        str(row) for name in expected if not (row := compare("d256", name, found[name], expected[name])).is_within
    ] == []
