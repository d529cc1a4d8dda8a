"""CTMWA against its golden files: the forward pass, and whole bi-level steps with their meta-gradients, in float64.

The numbers are those of the authors' program. A file of steps holds results only: parameters and batches come from the
rule for its seed. Both versions of the step are checked, the one to read and the fast one.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from sentifuse import DataError
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.golden.ctmwa_run import (
    INPUT_BOUND,
    MATRIX_GAIN,
    META_BATCHES,
    Hyper,
    Sizes,
    build_network,
    build_step,
    meta_batch,
    set_parameters,
    train_batch,
)
from sentifuse.fuse.golden.file import (
    HINT,
    NO_SEED,
    Array,
    Deviation,
    GoldenFile,
    compare,
    compare_with_rule,
    find_seed,
)
from sentifuse.fuse.golden.layout import steps_of
from sentifuse.fuse.golden.rule import integers, mask, parameter, reals
from sentifuse.fuse.heads.ctmwa import IMAGE, WORDS, Ctmwa, CtmwaConfig
from sentifuse.fuse.heads.ctmwa_fast import FastBilevelStep
from sentifuse.fuse.heads.ctmwa_network import (
    BACKBONE,
    CtmwaNetwork,
    Signals,
    TranslationWeights,
    pair_losses,
    run_network,
    training_loss,
    translation_loss,
    translation_losses,
)
from sentifuse.fuse.heads.ctmwa_step import (
    BilevelStep,
    NotFiniteLoss,
    PassRecord,
    StepMasks,
    StepRecord,
    Vectors,
    labels_of,
    layers_of,
    parameters_of,
    weigh,
)

INIT_SCALE = 1.5  # of the inputs in the file of the forward pass, which has no settings in it
INIT_TRANSLATION = TranslationWeights(text_cycle=0.05, image_cycle=0.05, text_from_image=2.0, image_from_text=0.2)
VERSIONS: dict[str, type[BilevelStep]] = {"readable": BilevelStep, "fast": FastBilevelStep}
PASSES = ("virtual", "meta", "real")


def check_init(golden: GoldenFile) -> list[Deviation]:
    """`ctmwa_init`: one forward pass with all losses and weights, and the predictions for a missing modality."""
    names = [name for name in golden.values if name.startswith(("param.", "train", "meta"))]
    class_count = golden.array("param.text_classifier.linear2.bias", 1).shape[0]
    rows = [compare_with_rule(golden, names, lambda seed, name: _by_rule(golden, seed, name, class_count))]
    network = _network_of({name: golden.tensor(f"param.{name}") for name in golden.names("param.")}, golden.path)
    batch = Vectors(
        text=golden.tensor("train0.text", 2) * INIT_SCALE,
        image=golden.tensor("train0.image", 2) * INIT_SCALE,
        labels=golden.tensor("train0.label", 1),
    )
    with torch.no_grad():
        signals = run_network(layers_of(parameters_of(network, BACKBONE)), batch.text, batch.image, {})
        found = _of_forward(network, signals, batch)
        rows += [compare("forward", name, value, golden.array(f"forward.{name}")) for name, value in found.items()]
        rows += _missing(golden, network, batch)
    return rows


def check_steps(golden: GoldenFile, versions: Sequence[str] = tuple(VERSIONS)) -> list[Deviation]:
    """`ctmwa_clip`, `ctmwa_noclip`, `ctmwa_dropout`: every step by both versions; the worst of each group."""
    hyper = {name: float(golden.array(f"hyper.{name}", 0)) for name in golden.names("hyper.")}
    sizes = _sizes(golden)
    masks = [name for name in golden.values if name.startswith("mask.")]
    network = build_network(0, sizes)
    seed = find_seed(golden.path, lambda seed: _begins_like(golden, network, seed, sizes, hyper))
    if seed is None:
        return [Deviation(stage="inputs", quantity=f"{NO_SEED} gives the first pass", value=np.nan, limit=0.0)]

    def make(seed: int, name: str) -> Array:
        return mask(seed, f"ctmwa.{name}", golden.array(name).shape, 1.0 - hyper["dropout"])

    rows = [compare_with_rule(golden, masks, make, seed=seed)] if masks else []
    for version in versions:
        network = build_network(seed, sizes)
        step = build_step(VERSIONS[version], network, hyper)
        for number in steps_of(golden):
            meta = meta_batch(seed, (number - 1) % META_BATCHES, sizes, hyper["input_scale"])
            try:
                record = step(
                    train_batch(seed, number - 1, sizes, hyper["input_scale"]),
                    meta,
                    masks=_masks(golden, number - 1, hyper["dropout"]) if masks else StepMasks(),
                )
            except NotFiniteLoss as error:
                stage = f"{version} {number}"
                rows.append(Deviation(stage=stage, quantity="a loss is not finite", value=error.value, limit=0.0))
                break
            found = _of_step(record, meta) | {"params.": dict(network.named_parameters())}
            rows += _compare_step(golden, f"{version} {number}", f"step{number}.", found)
    return rows


def _by_rule(golden: GoldenFile, seed: int, name: str, class_count: int) -> Array:
    shape = golden.array(name).shape
    if name.startswith("param."):
        return parameter(seed, f"ctmwa.{name}", shape, gain=MATRIX_GAIN)
    if name.endswith("label"):
        return integers(seed, f"ctmwa.{name}", shape, class_count)
    return reals(seed, f"ctmwa.{name}", shape, INPUT_BOUND)


def _network_of(state: Mapping[str, torch.Tensor], path: Path) -> CtmwaNetwork:
    try:
        network = CtmwaNetwork(
            state["text_encoder.weight"].shape[1],
            state["text_to_image.output.bias"].shape[0],
            embedding=state["text_neck.linear2.bias"].shape[0],
            class_count=state["text_classifier.linear2.bias"].shape[0],
            weight_net_width=state["text_weight_net.linear1.bias"].shape[0],
        ).double()
        network.load_state_dict(dict(state))
    except (KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: the parameters are not those of CTMWA: {reason}. {HINT}") from error
    return network


def _sizes(golden: GoldenFile) -> Sizes:
    last = next(f"step{step}" for step in reversed(steps_of(golden)) if golden.names(f"step{step}.params."))
    batch, class_count = golden.array("step1.virtual.logits_joint", 2).shape
    return Sizes(
        text=golden.array(f"{last}.params.text_encoder.bias", 1).shape[0],
        image=golden.array(f"{last}.params.text_to_image.output.bias", 1).shape[0],
        embedding=golden.array(f"{last}.params.text_neck.linear2.bias", 1).shape[0],
        class_count=class_count,
        weight_net=golden.array(f"{last}.params.text_weight_net.linear1.bias", 1).shape[0],
        batch=batch,
        meta_batch=golden.array("step1.meta.logits_joint", 2).shape[0],
    )


@torch.no_grad()
def _begins_like(golden: GoldenFile, network: CtmwaNetwork, seed: int, sizes: Sizes, hyper: Hyper) -> bool:
    """Whether the logits of any pair in the first pass are those of the file: some may be damaged, not all.

    Sets the network's backbone to the seed.
    """
    set_parameters(network, seed, BACKBONE)
    batch = train_batch(seed, 0, sizes, hyper["input_scale"])
    masks = _masks(golden, 0, hyper["dropout"]).virtual if hyper["dropout"] else {}
    signals = run_network(layers_of(parameters_of(network, BACKBONE)), batch.text, batch.image, masks)
    return any(
        np.isclose(logits.numpy(), golden.array(f"step1.virtual.logits_{which}"), rtol=1e-6, atol=1e-8).all(1).any()
        for which, logits in _logits(signals).items()
    )


def _masks(golden: GoldenFile, place: int, p: float) -> StepMasks:
    def of(which: str) -> dict[str, torch.Tensor]:
        prefix = f"mask.step{place}.{which}."
        return {call: golden.tensor(f"{prefix}{call}", 2).double() / (1.0 - p) for call in golden.names(prefix)}

    return StepMasks(**{which: of(which) for which in PASSES})


def _of_step(record: StepRecord, meta: Vectors) -> dict[str, Mapping[str, torch.Tensor]]:
    logits = _logits(record.meta_signals)
    labels = dict(zip(logits, labels_of(meta), strict=True))
    return {
        "virtual.": _of_pass(record.virtual),
        "meta.": {
            "total": record.meta_total,
            **{f"logits_{which}": value for which, value in logits.items()},
            **{f"ce_{which}": F.cross_entropy(value, labels[which]) for which, value in logits.items()},
        },
        "real.": _of_pass(record.real),
        "meta_grad.": record.weight_gradients,
        "meta_grad_norm.": {name: value.norm() for name, value in record.weight_gradients.items()},
        "grad_norm_before_clip.": record.norms,
        "virtual_params.": record.virtual_parameters,
    }


def _compare_step(
    golden: GoldenFile, stage: str, prefix: str, found: Mapping[str, Mapping[str, torch.Tensor]]
) -> Iterator[Deviation]:
    """The worst of each group; everything that the file has of a group must have been found."""
    nothing = np.full(0, np.nan)
    for group, values in found.items():
        names = golden.names(f"{prefix}{group}") if values else []  # the fast version forms no virtual parameters
        rows = [
            compare(stage, f"{group}{name}", values.get(name, nothing), golden.array(f"{prefix}{group}{name}"))
            for name in names
        ]
        if rows:
            yield max(rows, key=lambda row: np.inf if np.isnan(row.value) else row.value / row.limit)


def _logits(signals: Signals) -> dict[str, torch.Tensor]:
    return {"joint": signals.joint_logits, "text": signals.text_logits, "image": signals.image_logits}


def _of_pass(record: PassRecord) -> dict[str, torch.Tensor]:
    losses, w_t, w_v = record.losses, record.text_weight, record.image_weight
    distances = translation_losses(record.signals)
    return {
        **{f"l1_{name}": values.mean() for name, values in distances.items()},
        **{f"logits_{which}": logits for which, logits in _logits(record.signals).items()},
        "ce_joint": losses.joint,
        "ce_text": losses.text,
        "ce_image": losses.image,
        "weight_text": w_t,
        "weight_image": w_v,
        "weighted_text": (w_t * losses.text).mean(),
        "weighted_image": (w_v * losses.image).mean(),
        "translation": record.total - losses.joint.mean() - (w_t * losses.text).mean() - (w_v * losses.image).mean(),
        "total": record.total,
    }


def _of_forward(network: CtmwaNetwork, signals: Signals, batch: Vectors) -> dict[str, torch.Tensor]:
    w_t, w_v = weigh(network, signals, batch.labels)
    losses = pair_losses(signals, batch.labels)
    total = training_loss(signals, losses, INIT_TRANSLATION, w_t, w_v)
    record = PassRecord(signals=signals, losses=losses, text_weight=w_t, image_weight=w_v, total=total)
    assert signals.text_cycle is not None  # the cycles were asked for
    assert signals.image_cycle is not None
    return _of_pass(record) | {
        "translation": translation_loss(signals, INIT_TRANSLATION),
        "text_encoded": signals.text,
        "image": signals.image,
        "text_cycle": signals.text_cycle,
        "image_cycle": signals.image_cycle,
        "text_from_image": signals.text_from_image,
        "image_from_text": signals.image_from_text,
        "fusion_text": signals.fusion_text,
        "fusion_image": signals.fusion_image,
    }


def _missing(golden: GoldenFile, network: CtmwaNetwork, batch: Vectors) -> Iterator[Deviation]:
    """Our proposals for a pair without text or image, by the head itself."""
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    widths = {WORDS: batch.text.shape[1], IMAGE: batch.image.shape[1]}
    for missing, key in (("text", WORDS), ("image", IMAGE)):
        masks = {WORDS: torch.ones(len(batch), 1, dtype=torch.bool), IMAGE: torch.ones(len(batch), dtype=torch.bool)}
        masks[key] = torch.zeros_like(masks[key])
        pairs = Batch(
            ids=tuple(map(str, range(len(batch)))), values={WORDS: batch.text[:, None], IMAGE: batch.image}, masks=masks
        )
        remaining = "image" if missing == "text" else "text"
        expected: dict[Literal["translate", "unimodal"], str] = {
            "translate": "proposal.logits_joint",
            "unimodal": f"unimodal.logits_{remaining}",
        }
        for way, name in expected.items():
            config = CtmwaConfig(
                embedding_width=network.text_neck.linear2.out_features,
                weight_net_width=network.text_weight_net.linear1.out_features,
                missing=way,
            )
            head = Ctmwa(config, widths, network.text_classifier.linear2.out_features).double().eval()
            head.load_state_dict(head.state_dict() | state)
            stage = f"missing_{missing}"
            yield compare(stage, name, head(pairs).logits, golden.array(f"{stage}.{name}"))
