"""RNN-CA Embedding against its golden files: LSTM and GRU, every value, both losses and all gradients, in float64.

The numbers are of a reconstruction, not of the authors' program. Sizes, inputs and parameters come from the file.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from sentifuse import DataError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.golden.file import (
    HINT,
    Array,
    Deviation,
    GoldenFile,
    compare,
    compare_gradients,
    compare_with_rule,
)
from sentifuse.fuse.golden.rule import INPUT_BOUND, integers, parameter, reals
from sentifuse.fuse.heads.rnn_ca_embedding import IMAGE, STATES, RnnCaConfig, RnnCaEmbedding

CELLS: tuple[Literal["lstm"], Literal["gru"]] = ("lstm", "gru")
RANK_MARGIN, RANK_WEIGHT = 0.2, 0.5  # μ and η of the golden files

_TENSORS = {"w_input": "weight_ih_l0", "w_hidden": "weight_hh_l0", "b_input": "bias_ih_l0", "b_hidden": "bias_hh_l0"}
_DIRECTIONS = {"forward": "ahead", "backward": "back"}
_LAYERS = {"image": "image", "attention.hidden": "attention", "attention.score": "score", "classifier": "classifier"}
VALUES = {
    "h": "word",
    "image": "image",
    "attention": "attention",
    "attended": "attended",
    "sentence": "sentence",
}


def our_name(golden_name: str) -> str:
    """The name here of a parameter of a golden file.

    >>> our_name("lstm.backward.w_hidden"), our_name("attention.hidden.bias")
    ('rnn.back.weight_hh_l0', 'attention.bias')
    """
    layer_name, _, tensor = golden_name.rpartition(".")
    if tensor in _TENSORS:
        return f"rnn.{_DIRECTIONS[layer_name.split('.')[1]]}.{_TENSORS[tensor]}"
    return f"{_LAYERS[layer_name]}.{tensor}"


def check(golden: GoldenFile) -> list[Deviation]:
    """`rnn_ca`: both cells."""
    rows = [_compare_with_rule(golden)]
    for cell in CELLS:
        head, batch = build_head(golden, cell), build_batch(golden)
        output = head(batch)
        loss = head.loss(output, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        image, sentence = (F.normalize(output.details[name], dim=-1) for name in ("image", "sentence"))
        found = {name: output.details[ours] for name, ours in VALUES.items()} | {
            "logits": output.logits,
            "similarity": image @ sentence.T,
            "loss_class": F.cross_entropy(output.logits, golden.tensor("input.label", 1)),
            "loss_rank": head.rank(output, batch),
            "loss": loss,
        }
        rows += [compare(cell, name, value, golden.array(f"{cell}.out.{name}")) for name, value in found.items()]
        gradients = {name: tensor.grad for name, tensor in head.named_parameters()}
        ours = {name: gradients[our_name(name)] for name in golden.names(f"{cell}.param.")}
        given = {name: tensor if tensor is not None else torch.zeros(()) for name, tensor in ours.items()}
        rows.append(compare_gradients(cell, golden, f"{cell}.grad.", given))
    return rows


def build_head(golden: GoldenFile, cell: Literal["lstm", "gru"]) -> RnnCaEmbedding:
    """The head in float64 with the parameters of the file.

    Raises
    ------
    DataError
        A parameter is missing, too many, or of another shape.
    """
    prefix = f"{cell}.param."
    config = RnnCaConfig(
        cell=cell,
        hidden=golden.array(f"{prefix}{cell}.forward.w_hidden", 2).shape[1],
        attention_width=golden.array(f"{prefix}attention.hidden.weight", 2).shape[0],
        rank_weight=RANK_WEIGHT,
        rank_margin=RANK_MARGIN,
    )
    widths = {STATES: golden.array("input.words", 3).shape[2], IMAGE: golden.array("input.image", 2).shape[1]}
    head = RnnCaEmbedding(config, widths, golden.array(f"{prefix}classifier.bias", 1).shape[0]).double().eval()
    try:
        head.load_state_dict({our_name(name): golden.tensor(f"{prefix}{name}") for name in golden.names(prefix)})
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{golden.path}: the parameters are not those of RNN-CA: {reason}. {HINT}") from error
    return head


def build_batch(golden: GoldenFile) -> Batch:
    """The inputs of the file."""
    words, image = golden.tensor("input.words", 3), golden.tensor("input.image", 2)
    b, n, _ = words.shape
    return Batch(
        ids=tuple(map(str, range(b))),
        values={STATES: words, IMAGE: image},
        masks={
            STATES: torch.arange(n)[None] < golden.tensor("input.lengths", 1)[:, None],
            IMAGE: torch.ones(b, dtype=torch.bool),
        },
        labels=golden.tensor("input.label", 1),
    )


def _compare_with_rule(golden: GoldenFile) -> Deviation:
    class_count = golden.array("lstm.param.classifier.bias", 1).shape[0]

    def make(seed: int, name: str) -> Array:
        shape = golden.array(name).shape
        if name == "input.label":
            return integers(seed, "rnnca.label", shape, class_count)
        if name.startswith("input."):
            return reals(seed, f"rnnca.{name.removeprefix('input.')}", shape, INPUT_BOUND)
        # Both cells share the streams of what both have.
        return parameter(seed, f"rnnca.{name.partition('.')[2]}", shape)

    given = ["input.words", "input.image", "input.label"]
    parameters = [f"{cell}.param.{name}" for cell in CELLS for name in golden.names(f"{cell}.param.")]
    return compare_with_rule(golden, [*given, *parameters], make)
