"""ITIN against its equations written as loops, in every form that its settings give."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError
from sentifuse.fuse.config import resolve
from sentifuse.fuse.features.batches import Batch
from sentifuse.fuse.heads.itin import CONTEXT, REGIONS, WORDS, Itin, ItinConfig

WIDTHS = {"regions.features": 6, "tokens.states": 5, "context.vector": 4}
ABLATIONS = ("without_alignment", "without_gating", "without_context", "context_only")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def gru_loop(gru: torch.nn.GRU, suffix: str, words: list[np.ndarray]) -> list[np.ndarray]:
    """One direction of a layer over the words in the order given: gates r, z, n; h' = (1 − z) n + z h."""
    w_i, w_h, b_i, b_h = (
        getattr(gru, f"{name}_{suffix}").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    d = gru.hidden_size
    h, states = np.zeros(d), []
    for x in words:
        a, b = w_i @ x + b_i, w_h @ h + b_h
        new = np.zeros(d)
        for j in range(d):
            r, z = sigmoid(a[j] + b[j]), sigmoid(a[d + j] + b[d + j])
            n = math.tanh(a[2 * d + j] + r * b[2 * d + j])
            new[j] = (1 - z) * n + z * h[j]
        h = new
        states.append(h)
    return states


def words_loop(gru: torch.nn.GRU, x: list[np.ndarray]) -> list[np.ndarray]:
    """Equations 2–4, over all layers."""
    for layer in range(gru.num_layers):
        forward = gru_loop(gru, f"l{layer}", x)
        backward = gru_loop(gru, f"l{layer}_reverse", x[::-1])[::-1]
        x = [np.concatenate(both) for both in zip(forward, backward, strict=True)]
    return [(one[: gru.hidden_size] + one[gru.hidden_size :]) / 2 for one in x]


def linear_loop(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def unit(x: np.ndarray) -> np.ndarray:
    return x / (math.sqrt(float(x @ x)) + 1e-8)


def mixture(weights: list[float], vectors: list[np.ndarray], d: int) -> np.ndarray:
    return sum((a * one for a, one in zip(weights, vectors, strict=True)), np.zeros(d))


def messages_loop(head: Itin, regions: list[np.ndarray], words: list[np.ndarray]) -> list[np.ndarray]:
    """Equations 5–7, and what the authors' program does after them."""
    config, d = head.config, head.config.width
    messages = []
    for r in regions:
        if not config.alignment:
            messages.append(mixture([1 / len(words)] * len(words) if words else [], words, d))
            continue
        query = linear_loop(head.align_region, r)
        scores = [float(query @ linear_loop(head.align_text, w)) for w in words]  # 5
        weights = softmax([s / math.sqrt(config.align_width) for s in scores]) if words else []  # 6
        messages.append(mixture(weights, words, d))  # 7
    if config.regroup:
        keys = [linear_loop(head.regroup.key, u) for u in messages]
        queries = [linear_loop(head.regroup.query, u) for u in messages]
        weights = [softmax([float(q @ k) / math.sqrt(d) for k in keys]) for q in queries]
        messages = [mixture(row, messages, d) for row in weights]
    return [unit(u) for u in messages] if config.unit_length else messages


def interaction_loop(head: Itin, f: list[np.ndarray], words: list[np.ndarray]) -> np.ndarray:
    """Equations 1 and 5–13."""
    config, d = head.config, head.config.width
    regions = [linear_loop(head.region, one) for one in f]  # 1
    regions = [unit(r) for r in regions] if config.unit_length else regions
    z = []
    for r, u in zip(regions, messages_loop(head, regions, words), strict=True):
        if config.gate == "scalar":
            g = sigmoid(float(r @ u))  # 8
            c = np.concatenate([g * r, g * u])  # 9
        elif config.gate == "vector":
            gates = np.array([sigmoid(a * b) for a, b in zip(r, u, strict=True)])
            c = np.concatenate([gates * r, gates * u])
        else:
            c = np.concatenate([r, u])
        z.append(np.maximum(0, linear_loop(head.fuse, c)) + r)  # 10, 11
    scores = [linear_loop(head.pool[2], np.maximum(0, linear_loop(head.pool[0], one))) for one in z]
    pooled = np.zeros(d)
    for one in range(config.pool_heads):
        weights = softmax([float(score[one]) for score in scores]) if z else []  # 12
        pooled = pooled + mixture(weights, z, d) / config.pool_heads  # 13
    return unit(pooled) if config.unit_length else pooled


def itin_loop(head: Itin, batch: Batch, row: int) -> np.ndarray:
    """Logits of one pair, equation by equation, over what is real."""
    config, d = head.config, head.config.width
    x = [v for v, real in zip(batch.values[WORDS][row].numpy(), batch.masks[WORDS][row], strict=True) if real]
    if config.unmasked_length is not None:
        x = [*x, *[np.zeros(WIDTHS[WORDS])] * config.unmasked_length][: config.unmasked_length]
    words = words_loop(head.word_gru, x)  # 2, 3, 4
    pooled = np.zeros(0)
    if config.sources != "context":
        f = [v for v, real in zip(batch.values[REGIONS][row].numpy(), batch.masks[REGIONS][row], strict=True) if real]
        pooled = interaction_loop(head, f, words)
    if config.sources == "interaction":
        return linear_loop(head.classifier, np.maximum(0, linear_loop(head.interaction_mlp, pooled)))
    v = batch.values[CONTEXT][row].numpy() * float(batch.masks[CONTEXT][row])  # 14
    said = words if head.context_gru is None else words_loop(head.context_gru, x)
    text = sum(said, np.zeros(d)) / max(1, len(said))  # 15
    inputs = [[v, pooled], [text, pooled]]
    inputs = [two[::-1] if config.interaction_first else two for two in inputs]
    f1 = np.maximum(0, linear_loop(head.visual_mlp, np.concatenate(inputs[0])))  # 16
    f2 = np.maximum(0, linear_loop(head.textual_mlp, np.concatenate(inputs[1])))  # 17
    return linear_loop(head.classifier, config.visual_weight * f1 + (1 - config.visual_weight) * f2)  # 18, 19


FORMS: dict[str, dict[str, Any]] = {
    "scalar": {"gate": "scalar"},
    "vector": {"gate": "vector"},
    "without_alignment": {"alignment": False},
    "without_gating": {"gate": "none"},
    "without_context": {"sources": "interaction"},
    "context_only": {"sources": "context"},
    "two_layers": {"gru_layers": 2},
    "unit_length": {"unit_length": True},
    "regroup": {"regroup": True},
    "pool_heads": {"pool_heads": 3},
    "separate_gru": {"separate_gru": True},
    "no_bias": {"fuse_bias": False},
    "interaction_first": {"interaction_first": True},
    "unmasked": {"unmasked_length": 4},
    "authors": {
        "gru_layers": 2,
        "unit_length": True,
        "regroup": True,
        "pool_heads": 4,
        "separate_gru": True,
        "fuse_bias": False,
        "interaction_first": True,
        "unmasked_length": 6,
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(2))
def test_forward_is_its_equations_written_as_loops(form: str, seed: int, make_batch: Callable[..., Batch]) -> None:
    rng = np.random.default_rng(seed)
    width, align, mlp, pool = (int(n) for n in rng.integers(2, 8, size=4))
    sizes = {"width": width, "align_width": align, "mlp_width": mlp, "pool_width": pool, "visual_weight": 0.3}
    torch.manual_seed(seed)
    head = Itin(ItinConfig(**sizes, **FORMS[form]), WIDTHS, 3).double().eval()
    batch = make_batch(
        WIDTHS,
        lengths=tuple(int(n) for n in rng.integers(0, 6, size=5)),
        regions=tuple(int(n) for n in rng.integers(0, 4, size=5)),
        has_context=(True, False, True, True, True),
        seed=seed,
    )
    found = head(batch).logits.detach().numpy()
    for row in range(5):
        np.testing.assert_allclose(found[row], itin_loop(head, batch, row), atol=1e-10, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_and_leaves_no_parameter_out(form: str, make_batch: Callable[..., Batch]) -> None:
    torch.manual_seed(0)
    head = Itin(ItinConfig(width=8, align_width=4, mlp_width=6, **FORMS[form]), WIDTHS, 3).double()
    batch = make_batch(WIDTHS, lengths=(5, 4, 3, 2), regions=(2, 3, 2, 3), has_context=(True,) * 4)
    head.loss(head(batch), batch).backward()
    missing = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert set(missing) <= {"pool.2.bias"}  # a constant added to all scores of a softmax changes nothing
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-2)
    losses = [head.training_step(batch, optimiser) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_obeys_masks(form: str, make_batch: Callable[..., Batch]) -> None:
    torch.manual_seed(1)
    head = Itin(ItinConfig(width=8, align_width=4, mlp_width=6, **FORMS[form]), WIDTHS, 3).double().eval()
    batch = make_batch(WIDTHS, lengths=(3, 1, 2, 0))
    other = {k: v.masked_fill(~batch.masks[k].unsqueeze(-1), math.nan) for k, v in batch.values.items()}
    torch.testing.assert_close(head(replace(batch, values=other)).logits, head(batch).logits, atol=0, rtol=0)
    alone = replace(
        batch,
        ids=batch.ids[1:2],
        values={k: v[1:2, :1] if v.dim() == 3 and k == WORDS else v[1:2] for k, v in batch.values.items()},
        masks={k: m[1:2, :1] if k == WORDS else m[1:2] for k, m in batch.masks.items()},
        labels=batch.labels[1:2],
    )
    torch.testing.assert_close(head(alone).logits, head(batch).logits[1:2], atol=1e-12, rtol=0)


def test_statistics_are_means_over_the_regions_of_a_pair(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(WIDTHS, lengths=(5, 1, 3, 2), regions=(2, 3, 0, 1))
    for gate in ("scalar", "vector"):
        head = Itin(ItinConfig(width=8, align_width=4, mlp_width=6, gate=gate), WIDTHS, 3).double().eval()
        with torch.no_grad():
            head.region.weight.mul_(20)  # some gates come near to 0 or 1
            output = head(batch)
        found = head.statistics(output, batch)
        gates = output.details["gate"]
        for row, n in ((0, 2), (1, 3), (3, 1)):
            real = gates[row, :n]
            assert found["gate"][row].item() == pytest.approx(real.mean().item())
            saturated = ((real < 0.01) | (real > 0.99)).double().mean().item()
            assert found["gate_saturated"][row].item() == pytest.approx(saturated)
            peak = output.details["alignment"][row, :n].amax(-1).mean().item()
            assert found["alignment_peak"][row].item() == pytest.approx(peak)
        assert all(values[2].isnan() for values in found.values())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"gate": "none"}, {"alignment_peak"}),
        ({"alignment": False}, {"gate", "gate_saturated"}),
        ({"sources": "context"}, set()),
    ],
)
def test_what_is_left_out_has_no_statistics(
    settings: dict[str, Any], names: set[str], make_batch: Callable[..., Batch]
) -> None:
    head, batch = Itin(ItinConfig(width=4, **settings), WIDTHS, 3).double().eval(), make_batch(WIDTHS)
    assert set(head.statistics(head(batch), batch)) == names


@pytest.mark.parametrize("preset", ABLATIONS)
def test_an_ablation_is_the_default_without_one_thing(preset: str) -> None:
    default, ablation = (resolve("itin", ItinConfig, Itin.PRESETS, preset=name) for name in ("default", preset))
    assert ablation.train == default.train
    changed = [f for f in ItinConfig.__dataclass_fields__ if getattr(default.head, f) != getattr(ablation.head, f)]
    assert len(changed) == 1


def test_an_ablation_reads_only_what_it_uses() -> None:
    keys = {
        preset: {r.key for r in Itin.requests(resolve("itin", ItinConfig, Itin.PRESETS, preset=preset).head)}
        for preset in ("default", *ABLATIONS)
    }
    assert keys["default"] == keys["without_alignment"] == keys["without_gating"] == {REGIONS, WORDS, CONTEXT}
    assert keys["without_context"] == {REGIONS, WORDS}
    assert keys["context_only"] == {WORDS, CONTEXT}


def test_gates_of_unit_vectors_cannot_leave_their_range(make_batch: Callable[..., Batch]) -> None:
    """What the authors' program can give, while the paper's figure 7 prints 0.9846 and 0.1350."""
    settings = {"unit_length": True, "regroup": True}
    head = Itin(ItinConfig(width=6, align_width=6, **settings), WIDTHS, 3).double().eval()
    with torch.no_grad():
        head.region.weight.mul_(100)
        gate = head(make_batch(WIDTHS, lengths=(5, 1, 3, 2), regions=(2, 3, 2, 1))).details["gate"]
    assert gate.min() >= 1 / (1 + math.e) - 1e-9
    assert gate.max() <= 1 / (1 + 1 / math.e) + 1e-9


def test_no_regions_gives_no_interaction_and_no_words_no_text(make_batch: Callable[..., Batch]) -> None:
    head = Itin(ItinConfig(width=8, align_width=4, mlp_width=4, standardise=True), WIDTHS, 3).double().eval()
    details = head(make_batch(WIDTHS)).details  # pair 2 has no regions, pair 3 no words
    assert details["pooled"][2].abs().sum() == 0
    assert details["pool_weights"][2].abs().sum() == 0
    assert details["text_context"][3].abs().sum() == 0
    assert details["alignment"][3].abs().sum() == 0


def test_weights_over_words_and_regions_add_up_to_one(make_batch: Callable[..., Batch]) -> None:
    head = Itin(ItinConfig(width=8, align_width=4, mlp_width=4), WIDTHS, 3).double().eval()
    batch = make_batch(WIDTHS)
    details = head(batch).details
    torch.testing.assert_close(details["alignment"][:3].sum(-1), torch.ones(3, 3).double())
    assert (details["alignment"][~batch.masks["tokens.states"][:, None].expand(-1, 3, -1)] == 0).all()
    torch.testing.assert_close(details["pool_weights"].sum(-1)[[0, 1, 3]], torch.ones(3).double())


def test_only_the_first_m_regions_are_asked_for() -> None:
    requests = {request.key: request for request in Itin.requests(ItinConfig(region_count=5))}
    assert requests["regions.features"].limit == 5
    assert requests["tokens.states"].limit is None


@pytest.mark.parametrize(
    "settings",
    [
        {"gru_layers": 2, "word_dropout": 0.2},
        {"layer_norm": True},
        {"standardise": True, "input_dropout": 0.3, "output_dropout": 0.3, "label_smoothing": 0.1},
    ],
)
def test_each_addition_to_the_paper_trains(settings: dict[str, object], make_batch: Callable[..., Batch]) -> None:
    torch.manual_seed(0)
    head = Itin(ItinConfig(width=8, align_width=4, mlp_width=6, **settings), WIDTHS, 3).double()
    batch = make_batch(WIDTHS, lengths=(5, 4, 3, 2), regions=(2, 3, 2, 3), has_context=(True,) * 4)
    head.prepare([batch])
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses = [head.training_step(batch, optimiser) for _ in range(40)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_paper_preset_is_the_paper_and_nothing_else() -> None:
    resolved = resolve("itin", ItinConfig, Itin.PRESETS, preset="paper", dataset="mvsa_single")
    head, train = resolved.head, resolved.train
    assert (head.gate, head.visual_weight, head.region_count, head.gru_layers) == ("scalar", 0.2, 2, 1)
    assert not any([head.standardise, head.layer_norm, head.input_dropout, head.output_dropout, head.label_smoothing])
    assert (train.optimiser, train.learning_rate, train.weight_decay, train.batch_size) == ("adam", 1e-3, 1e-5, 64)
    assert (train.schedule, train.step_epochs, train.step_factor, train.epochs) == ("step", 10, 0.1, 40)
    multiple = resolve("itin", ItinConfig, Itin.PRESETS, preset="paper", dataset="mvsa_multiple")
    assert multiple.train.batch_size == 128


def test_features_of_another_width_are_refused(make_batch: Callable[..., Batch]) -> None:
    head = Itin(ItinConfig(width=4), WIDTHS, 3).double()
    with pytest.raises(ValueError, match=r"tokens\.states: expected width 5, found 8"):
        head(make_batch({**WIDTHS, "tokens.states": 8}))


def test_gate_has_two_readings_only() -> None:
    with pytest.raises(ConfigError, match="'scaler'; did you mean 'scalar'"):
        ItinConfig(gate="scaler")


def test_authors_preset_has_every_deviation_of_the_authors_program() -> None:
    head = resolve("itin", ItinConfig, Itin.PRESETS, preset="authors").head
    assert (head.width, head.align_width, head.mlp_width, head.gru_layers, head.pool_heads) == (1024, 1024, 64, 2, 4)
    assert all([head.unit_length, head.regroup, head.separate_gru, head.interaction_first])
    assert not head.fuse_bias
    assert (head.unmasked_length, head.layer_dropout, head.word_dropout, head.gate) == (100, 0.25, 0.0, "scalar")


def test_the_crowd_s_embedding_takes_the_context_s_place_or_stands_beside_it(make_batch: Callable[..., Batch]) -> None:
    """V of equation 14 by hand: the same weights, given one vector that is the two put together."""
    widths = WIDTHS | {"crowd.embedding": 3}
    batch = make_batch(widths)
    joined = torch.cat([batch.values[CONTEXT], batch.values["crowd.embedding"]], -1)
    for context, V in (("crowd", batch.values["crowd.embedding"]), ("both", joined)):  # noqa: N806
        head = Itin(ItinConfig(width=4, align_width=4, mlp_width=4, context=context), widths, 3).double().eval()
        assert [request.key for request in Itin.requests(head.config)][2:] == (
            ["crowd.embedding"] if context == "crowd" else [CONTEXT, "crowd.embedding"]
        )
        plain = (
            Itin(ItinConfig(width=4, align_width=4, mlp_width=4), WIDTHS | {CONTEXT: V.shape[-1]}, 3).double().eval()
        )
        plain.load_state_dict(head.state_dict())
        has_both = batch.masks[CONTEXT] & batch.masks["crowd.embedding"]
        as_context = replace(batch, values={**batch.values, CONTEXT: V}, masks={**batch.masks, CONTEXT: has_both})
        torch.testing.assert_close(head(batch).logits[has_both], plain(as_context).logits[has_both])
