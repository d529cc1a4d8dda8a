"""ITIN against numbers and against its equations written as loops."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sentifuse import ConfigError
from sentifuse.fuse.batches import Batch
from sentifuse.fuse.config import resolve
from sentifuse.fuse.heads.itin import Itin, ItinConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "heads" / "itin_paper_s1.npz"
WIDTHS = {"regions.features": 6, "tokens.states": 5, "context.vector": 4}

# Names of the golden file -> names here.
PARAMETERS = {
    "region.weight": "region.weight",
    "region.bias": "region.bias",
    "align.region.weight": "align_region.weight",
    "align.text.weight": "align_text.weight",
    "fuse.weight": "fuse.weight",
    "fuse.bias": "fuse.bias",
    "pool.linear1.weight": "pool.0.weight",
    "pool.linear1.bias": "pool.0.bias",
    "pool.linear2.weight": "pool.2.weight",
    "pool.linear2.bias": "pool.2.bias",
    "visual_mlp.weight": "visual_mlp.weight",
    "visual_mlp.bias": "visual_mlp.bias",
    "textual_mlp.weight": "textual_mlp.weight",
    "textual_mlp.bias": "textual_mlp.bias",
    "classifier.weight": "classifier.weight",
    "classifier.bias": "classifier.bias",
}
for direction, suffix in (("forward", ""), ("backward", "_reverse")):
    for golden, torch_name in (
        ("w_input", "weight_ih"),
        ("w_hidden", "weight_hh"),
        ("b_input", "bias_ih"),
        ("b_hidden", "bias_hh"),
    ):
        PARAMETERS[f"word_gru.{direction}.{golden}"] = f"word_gru.{torch_name}_l0{suffix}"
VALUES = {
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


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def golden_head(gate: str) -> Itin:
    config = ItinConfig(width=16, align_width=12, mlp_width=10, gate=gate)
    head = Itin(config, {"regions.features": 24, "tokens.states": 20, "context.vector": 14}, 3).double()
    state = {ours: torch.from_numpy(golden()[f"param.{theirs}"]) for theirs, ours in PARAMETERS.items()}
    head.load_state_dict(state)
    return head.eval()


def golden_batch() -> Batch:
    given = {name: torch.from_numpy(golden()[f"input.{name}"]) for name in ("regions", "words", "context", "label")}
    lengths = torch.from_numpy(golden()["input.lengths"])
    return Batch(
        ids=("a", "b", "c"),
        values={
            "regions.features": given["regions"],
            "tokens.states": given["words"],
            "context.vector": given["context"],
        },
        masks={
            "regions.features": torch.ones(3, 2, dtype=torch.bool),
            "tokens.states": torch.arange(7)[None] < lengths[:, None],
            "context.vector": torch.ones(3, dtype=torch.bool),
        },
        labels=given["label"],
    )


def assert_golden(found: torch.Tensor, name: str) -> None:
    np.testing.assert_allclose(found.detach().numpy(), golden()[name], atol=1e-10, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("gate", ["scalar", "vector"])
class TestGolden:
    def test_every_intermediate_value(self, gate: str) -> None:
        output = golden_head(gate)(golden_batch())
        for theirs, ours in VALUES.items():
            assert_golden(output.details[ours], f"{gate}.{theirs}")

    def test_logits_probabilities_and_loss(self, gate: str) -> None:
        head, batch = golden_head(gate), golden_batch()
        output = head(batch)
        assert_golden(output.logits, f"{gate}.logits")
        assert_golden(output.logits.softmax(-1), f"{gate}.prob")
        assert_golden(head.loss(output, batch), f"{gate}.loss")

    def test_gradient_of_every_parameter(self, gate: str) -> None:
        head, batch = golden_head(gate), golden_batch()
        head.loss(head(batch), batch).backward()
        assert set(PARAMETERS.values()) == {name for name, _ in head.named_parameters()}
        gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
        for theirs, ours in PARAMETERS.items():
            assert_golden(gradients[ours], f"{gate}.grad.{theirs}")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def gru_loop(head: Itin, suffix: str, words: list[np.ndarray]) -> list[np.ndarray]:
    """One direction of the GRU over the words in the order given: gates r, z, n; h' = (1 − z) n + z h."""
    w_i, w_h, b_i, b_h = (
        getattr(head.word_gru, f"{name}_l0{suffix}").detach().numpy()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    d = head.config.width
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


def linear_loop(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def itin_loop(head: Itin, batch: Batch, row: int) -> np.ndarray:
    """Logits of one pair, equation by equation, over what is real."""
    config, d = head.config, head.config.width
    f, x = (
        [v for v, real in zip(batch.values[key][row].numpy(), batch.masks[key][row], strict=True) if real]
        for key in ("regions.features", "tokens.states")
    )
    v = batch.values["context.vector"][row].numpy() * float(batch.masks["context.vector"][row])
    regions = [linear_loop(head.region, one) for one in f]  # 1
    forward, backward = gru_loop(head, "", x), gru_loop(head, "_reverse", x[::-1])[::-1]  # 2, 3
    words = [(a + b) / 2 for a, b in zip(forward, backward, strict=True)]  # 4
    z = []
    for r in regions:
        query = linear_loop(head.align_region, r)
        scores = [float(query @ linear_loop(head.align_text, w)) for w in words]  # 5
        weights = softmax([s / math.sqrt(config.align_width) for s in scores]) if words else []  # 6
        u = sum((a * w for a, w in zip(weights, words, strict=True)), np.zeros(d))  # 7
        if config.gate == "scalar":
            g = sigmoid(float(r @ u))  # 8
            c = np.concatenate([g * r, g * u])  # 9
        else:
            gates = np.array([sigmoid(a * b) for a, b in zip(r, u, strict=True)])
            c = np.concatenate([gates * r, gates * u])
        z.append(np.maximum(0, linear_loop(head.fuse, c)) + r)  # 10, 11
    scores = [float(linear_loop(head.pool[2], np.maximum(0, linear_loop(head.pool[0], one)))[0]) for one in z]
    pooled = sum((a * one for a, one in zip(softmax(scores) if z else [], z, strict=True)), np.zeros(d))  # 12, 13
    text = sum(words, np.zeros(d)) / max(1, len(words))  # 15
    f1 = np.maximum(0, linear_loop(head.visual_mlp, np.concatenate([v, pooled])))  # 14, 16
    f2 = np.maximum(0, linear_loop(head.textual_mlp, np.concatenate([text, pooled])))  # 17
    return linear_loop(head.classifier, config.visual_weight * f1 + (1 - config.visual_weight) * f2)  # 18, 19


@pytest.mark.parametrize("gate", ["scalar", "vector"])
@pytest.mark.parametrize("seed", range(4))
def test_forward_is_its_equations_written_as_loops(gate: str, seed: int, make_batch: Callable[..., Batch]) -> None:
    rng = np.random.default_rng(seed)
    width, align, mlp, pool = (int(n) for n in rng.integers(2, 8, size=4))
    config = ItinConfig(width=width, align_width=align, mlp_width=mlp, pool_width=pool, gate=gate, visual_weight=0.3)
    torch.manual_seed(seed)
    head = Itin(config, WIDTHS, 3).double().eval()
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
    losses = [head.training_step(batch, optimiser) for _ in range(60)]
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
