"""ITIN against its golden files: the paper's equations in both readings of the gate, and the authors' program.

Sizes, inputs and parameters come from the file; everything is computed in float64.
"""

from collections.abc import Mapping
from typing import Any

import torch

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
from sentifuse.fuse.heads.itin import CONTEXT, REGIONS, WORDS, Itin, ItinConfig

INPUTS = {"regions": REGIONS, "words": WORDS, "context": CONTEXT}

# Names of the golden files -> names here.
_LAYERS = {
    "region": "region",
    "align.region": "align_region",
    "align.text": "align_text",
    "regroup.query": "regroup.query",
    "regroup.key": "regroup.key",
    "fuse": "fuse",
    "pool.linear1": "pool.0",
    "pool.linear2": "pool.2",
    "visual_mlp": "visual_mlp",
    "textual_mlp": "textual_mlp",
    "classifier": "classifier",
}
_GRU = {"w_input": "weight_ih", "w_hidden": "weight_hh", "b_input": "bias_ih", "b_hidden": "bias_hh"}
PAPER_VALUES = {
    "r": "region",
    "w": "word",
    "A": "affinity",
    "A_norm": "alignment",
    "U": "message",
    "g": "gate",
    "c": "gated",
    "o": "fused",
    "z": "interaction",
    "alpha": "pool_weights",
    "C": "pooled",
    "S": "text_context",
    "F1": "visual_feature",
    "F2": "textual_feature",
    "F": "feature",
}
CODE_VALUES = {
    "region": "region",
    "word": "word",
    "align_weights": "alignment",
    "text_message": "message",
    "regrouped_message": "regrouped",
    "gate": "gate",
    "c": "gated",
    "o": "fused",
    "z": "interaction",
    "pool_weights": "head_weights",
    "C": "pooled",
    "S": "text_context",
    "F1": "visual_feature",
    "F2": "textual_feature",
}


def our_name(golden_name: str) -> str:
    """The name here of a parameter of a golden file.

    >>> our_name("word_gru.layer1.backward.b_hidden"), our_name("pool.linear1.weight")
    ('word_gru.bias_hh_l1_reverse', 'pool.0.weight')
    """
    if "_gru." in golden_name:
        gru, *layer, direction, tensor = golden_name.split(".")
        number = layer[0].removeprefix("layer") if layer else "0"
        return f"{gru}.{_GRU[tensor]}_l{number}{'_reverse' if direction == 'backward' else ''}"
    layer_name, _, tensor = golden_name.rpartition(".")
    return f"{_LAYERS[layer_name]}.{tensor}"


def golden_name(name: str, *, layered: bool) -> str:
    """The name in golden files of a parameter here; `layered` where GRUs are named with their layers.

    >>> golden_name("word_gru.bias_hh_l1_reverse", layered=True), golden_name("pool.0.weight", layered=False)
    ('word_gru.layer1.backward.b_hidden', 'pool.linear1.weight')
    """
    module, _, tensor = name.rpartition(".")
    if not module.endswith("_gru"):
        return f"{next(golden for golden, ours in _LAYERS.items() if ours == module)}.{tensor}"
    forward = tensor.removesuffix("_reverse")
    kind, _, number = forward.rpartition("_l")
    layer = f".layer{number}" if layered else ""
    direction = "forward" if forward == tensor else "backward"
    return f"{module}{layer}.{direction}.{next(golden for golden, ours in _GRU.items() if ours == kind)}"


def authors_config(d: int, k: int, h: int, **more: Any) -> ItinConfig:
    """The authors' program at these widths; `more` adds to or replaces its settings."""
    settings: dict[str, Any] = {
        "gru_layers": 2,
        "unit_length": True,
        "regroup": True,
        "pool_heads": 4,
        "separate_gru": True,
        "fuse_bias": False,
        "interaction_first": True,
    }
    return ItinConfig(width=d, align_width=k, mlp_width=h, **(settings | more))


def check_paper(golden: GoldenFile) -> list[Deviation]:
    """`itin_paper`: every intermediate value, loss and gradient, with the scalar and with the vector gate."""
    rows = [_compare_with_rule(golden, "itin_paper")]
    for gate in ("scalar", "vector"):
        config = ItinConfig(
            width=golden.array("param.align.region.weight", 2).shape[1],
            align_width=golden.array("param.align.region.weight", 2).shape[0],
            mlp_width=golden.array("param.classifier.weight", 2).shape[1],
            gate=gate,
        )
        head, batch = build_head(golden, config), build_batch(golden)
        output = head(batch)
        loss = head.loss(output, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        labels = golden.tensor("input.label", 1)
        each = torch.nn.functional.cross_entropy(output.logits, labels, reduction="none")
        found = {name: output.details[ours] for name, ours in PAPER_VALUES.items()}
        # The file has zeros in A where there is no word.
        found["A"] = found["A"] * batch.masks[WORDS][:, None, :]
        found |= {"logits": output.logits, "prob": output.logits.softmax(-1), "loss_per_sample": each, "loss": loss}
        rows += [compare(gate, name, value, golden.array(f"{gate}.{name}")) for name, value in found.items()]
        rows.append(compare_gradients(gate, golden, f"{gate}.grad.", _gradients(golden, head)))
    return rows


def check_code(golden: GoldenFile) -> list[Deviation]:
    """`itin_code`: the authors' program in evaluation mode, with gradients."""
    k, d = golden.array("param.align.region.weight", 2).shape
    config = authors_config(
        d,
        k,
        golden.array("param.classifier.weight", 2).shape[1],
        pool_heads=golden.array("param.pool.linear2.weight", 2).shape[0],
        unmasked_length=golden.array("input.words", 3).shape[1],
    )
    head, batch = build_head(golden, config), build_batch(golden)
    output = head(batch)
    loss = head.loss(output, batch)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
    # With a single pooling head the head has its weights under one name only.
    details = {"head_weights": output.details["pool_weights"][:, None]} | output.details
    found = {name: details[ours] for name, ours in CODE_VALUES.items()} | {"logits": output.logits, "loss": loss}
    return [
        _compare_with_rule(golden, "itin_code"),
        *(compare("forward", name, value, golden.array(f"out.{name}")) for name, value in found.items()),
        compare_gradients("backward", golden, "grad.", _gradients(golden, head)),
    ]


def build_head(golden: GoldenFile, config: ItinConfig) -> Itin:
    """ITIN in float64 with the parameters of the file.

    Raises
    ------
    DataError
        A parameter is missing, too many, or of another shape.
    """
    widths = {key: golden.array(f"input.{name}").shape[-1] for name, key in INPUTS.items()}
    head = Itin(config, widths, golden.array("param.classifier.bias", 1).shape[0]).double().eval()
    try:
        state = {our_name(name): golden.tensor(f"param.{name}") for name in golden.names("param.")}
        head.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{golden.path}: the parameters are not those of ITIN: {reason}. {HINT}") from error
    return head


def build_batch(golden: GoldenFile) -> Batch:
    """The inputs of the file; without lengths every word is real."""
    values = {key: golden.tensor(f"input.{name}", 2 if key == CONTEXT else 3) for name, key in INPUTS.items()}
    b, n, _ = values[WORDS].shape
    has_lengths = "input.lengths" in golden.values
    lengths = golden.tensor("input.lengths", 1) if has_lengths else torch.full((b,), n)
    masks = {
        REGIONS: torch.ones(values[REGIONS].shape[:2], dtype=torch.bool),
        WORDS: torch.arange(n)[None] < lengths[:, None],
        CONTEXT: torch.ones(b, dtype=torch.bool),
    }
    ids = tuple(map(str, range(b)))
    return Batch(ids=ids, values=values, masks=masks, labels=golden.tensor("input.label", 1))


def _gradients(golden: GoldenFile, head: Itin) -> Mapping[str, torch.Tensor]:
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    found = {name: gradients[our_name(name)] for name in golden.names("param.")}
    return {name: gradient if gradient is not None else torch.zeros(()) for name, gradient in found.items()}


def _compare_with_rule(golden: GoldenFile, stream: str) -> Deviation:
    class_count = golden.array("param.classifier.bias", 1).shape[0]

    def make(seed: int, name: str) -> Array:
        shape = golden.array(name).shape
        if name == "input.label":
            return integers(seed, "itin.label", shape, class_count)
        if name.startswith("input."):
            return reals(seed, f"itin.{name.removeprefix('input.')}", shape, INPUT_BOUND)
        return parameter(seed, f"{stream}.{name}", shape)

    given = [f"input.{name}" for name in (*INPUTS, "label")]
    return compare_with_rule(golden, [*given, *(f"param.{name}" for name in golden.names("param."))], make)
