"""CTMWA's network and losses against their formulas written as loops over one pair."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sentifuse.fuse.heads.ctmwa_network import (
    BACKBONE,
    CALLS,
    WEIGHT_NETS,
    CtmwaNetwork,
    Signals,
    TranslationWeights,
    draw_masks,
    meta_loss,
    pair_losses,
    run_network,
    training_loss,
    translate,
    translation_losses,
    weight_inputs,
)
from sentifuse.fuse.heads.ctmwa_step import layers_of, parameters_of, weigh

TEXT, IMAGE, EMBEDDING, CLASSES, PAIRS = 5, 4, 3, 3, 6
WEIGHTS = TranslationWeights(text_cycle=0.3, image_cycle=0.7, text_from_image=1.1, image_from_text=0.2)

Vector = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture
def network() -> CtmwaNetwork:
    torch.manual_seed(3)
    found = CtmwaNetwork(TEXT, IMAGE, embedding=EMBEDDING, class_count=CLASSES, weight_net_width=7).double()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(PAIRS, TEXT, generator=generator, dtype=torch.float64)
    image = torch.randn(PAIRS, IMAGE, generator=generator, dtype=torch.float64)
    return text, image, torch.arange(PAIRS) % CLASSES


def run(network: CtmwaNetwork, masks: dict[str, torch.Tensor] | None = None) -> Signals:
    text, image, _ = batch()
    return run_network(layers_of(parameters_of(network, BACKBONE)), text, image, masks or {})


def linear_loop(layer: torch.nn.Linear, x: Vector) -> Vector:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.array([sum(weight[o, i] * x[i] for i in range(len(x))) + bias[o] for o in range(len(bias))])


def translate_loop(translator: Any, x: Vector, factors: tuple[float, float] = (1.0, 1.0)) -> Vector:
    hidden = np.array([max(0.0, h) for h in linear_loop(translator.hidden, x)])
    heads = linear_loop(translator.value, hidden)
    width = len(heads) // 2
    dropped = np.concatenate([factors[0] * heads[:width], factors[1] * heads[width:]])
    return linear_loop(translator.output, dropped)


def block_loop(block: Any, x: Vector) -> Vector:
    middle = linear_loop(block.linear1, x)
    return linear_loop(block.linear2, np.array([m if m > 0 else 0.1 * m for m in middle]))


def pair_loop(network: CtmwaNetwork, text: Vector, image: Vector, row: int, masks: dict[str, torch.Tensor]) -> Any:
    """Everything of one pair, by name."""

    def factors(call: str) -> tuple[float, float]:
        return tuple(masks[call][row].tolist()) if masks else (1.0, 1.0)

    t, v = linear_loop(network.text_encoder, text), image
    to_image = translate_loop(network.text_to_image, t, factors("text_to_image.call0"))
    to_text = translate_loop(network.image_to_text, v, factors("image_to_text.call1"))
    f_t, f_v = np.concatenate([t, to_image]), np.concatenate([to_text, v])
    z_t, z_v = block_loop(network.text_neck, f_t), block_loop(network.image_neck, f_v)
    return {
        "text": t,
        "image_from_text": to_image,
        "text_from_image": to_text,
        "text_cycle": translate_loop(network.image_to_text, to_image, factors("image_to_text.call0")),
        "image_cycle": translate_loop(network.text_to_image, to_text, factors("text_to_image.call1")),
        "fusion_text": f_t,
        "fusion_image": f_v,
        "joint_logits": block_loop(network.joint_classifier, np.concatenate([z_t, z_v])),
        "text_logits": block_loop(network.text_classifier, z_t),
        "image_logits": block_loop(network.image_classifier, z_v),
    }


def cross_entropy_loop(logits: Vector, label: int) -> float:
    return math.log(sum(math.exp(y) for y in logits)) - logits[label]


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_forward_equals_the_formulas_pair_by_pair(network: CtmwaNetwork, p: float) -> None:
    text, image, _ = batch()
    torch.manual_seed(0)
    masks = draw_masks(PAIRS, p, text)
    signals = run(network, masks)
    for row in range(PAIRS):
        for name, expected in pair_loop(network, text[row].numpy(), image[row].numpy(), row, masks).items():
            np.testing.assert_allclose(getattr(signals, name)[row].detach(), expected, atol=1e-10, rtol=0, err_msg=name)


def test_losses_equal_the_formulas(network: CtmwaNetwork) -> None:
    text, image, labels = batch()
    signals = run(network)
    found = [pair_loop(network, text[row].numpy(), image[row].numpy(), row, {}) for row in range(PAIRS)]
    w_t, w_v = torch.rand(PAIRS).double(), torch.rand(PAIRS).double()
    distances = {
        "text_cycle": ("text", "text_cycle"),
        "image_cycle": (None, "image_cycle"),
        "text_from_image": ("text", "text_from_image"),
        "image_from_text": (None, "image_from_text"),
    }
    expected = 0.0
    for name, (target, translated) in distances.items():
        values = [
            np.mean([abs(a - b) for a, b in zip(one[target] if target else x, one[translated], strict=True)])
            for one, x in zip(found, image.numpy(), strict=True)
        ]
        np.testing.assert_allclose(translation_losses(signals)[name].detach(), values, atol=1e-10)
        expected += getattr(WEIGHTS, name) * sum(values) / PAIRS
    for one, label, a, b in zip(found, labels.tolist(), w_t.tolist(), w_v.tolist(), strict=True):
        expected += cross_entropy_loop(one["joint_logits"], label) / PAIRS
        expected += a * cross_entropy_loop(one["text_logits"], label) / PAIRS
        expected += b * cross_entropy_loop(one["image_logits"], label) / PAIRS
    total = training_loss(signals, pair_losses(signals, labels), WEIGHTS, w_t, w_v)
    assert total.item() == pytest.approx(expected, abs=1e-10)


def test_the_meta_loss_takes_each_modality_s_own_label(network: CtmwaNetwork) -> None:
    text, image, labels = batch()
    text_labels, image_labels = (labels + 1) % CLASSES, (labels + 2) % CLASSES
    expected = 0.0
    for row in range(PAIRS):
        one = pair_loop(network, text[row].numpy(), image[row].numpy(), row, {})
        for which, of in (("joint", labels), ("text", text_labels), ("image", image_labels)):
            expected += cross_entropy_loop(one[f"{which}_logits"], int(of[row])) / PAIRS
    assert meta_loss(run(network), labels, text_labels, image_labels).item() == pytest.approx(expected, abs=1e-10)


def test_weights_equal_the_formulas_and_are_cut_from_the_backbone(network: CtmwaNetwork) -> None:
    text, image, labels = batch()
    signals = run(network)
    w_t, w_v = weigh(network, signals, labels)
    for row, label in enumerate(labels.tolist()):
        one = pair_loop(network, text[row].numpy(), image[row].numpy(), row, {})
        onehot = np.eye(CLASSES)[label]
        for side, net, weight in (("text", network.text_weight_net, w_t), ("image", network.image_weight_net, w_v)):
            s = np.concatenate([onehot, one["joint_logits"], one[f"{side}_logits"], one[f"fusion_{side}"]])
            hidden = np.array([max(0.0, h) for h in linear_loop(net.linear1, s)])
            expected = 1 / (1 + math.exp(-linear_loop(net.linear2, hidden)[0]))
            assert weight[row].item() == pytest.approx(expected, abs=1e-10)
    assert not any(s.requires_grad for s in weight_inputs(signals, labels))
    backbone = list(parameters_of(network, BACKBONE).values())
    assert torch.autograd.grad((w_t + w_v).sum(), backbone, allow_unused=True) == (None,) * len(backbone)


def test_the_five_row_kernel_and_the_attention_are_three_linear_layers() -> None:
    """The authors' form on a sequence of one: convolution 5 × width with two rows of padding, then attention."""
    torch.manual_seed(0)
    network = CtmwaNetwork(TEXT, IMAGE, embedding=2, class_count=2, weight_net_width=2).double()
    convolution = torch.nn.Conv2d(1, TEXT, (5, IMAGE), padding=(2, 0)).double()
    query, key = torch.randn(2, TEXT, TEXT).double(), torch.randn(2, TEXT, TEXT).double()
    with torch.no_grad():
        network.image_to_text.hidden.weight.copy_(convolution.weight[:, 0, 2, :])
        network.image_to_text.hidden.bias.copy_(convolution.bias)
    x = torch.randn(PAIRS, IMAGE).double()
    hidden = F.relu(convolution(x[:, None, None, :])).squeeze(-1).transpose(1, 2)  # (B, 1, Dt)
    value = network.image_to_text.value(hidden).view(PAIRS, 1, 2, TEXT)
    scores = torch.einsum("bid,hde,hfe,bjf->bhij", hidden, query, key, hidden)
    attended = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), value).flatten(2)
    expected = network.image_to_text.output(attended).squeeze(1)
    found = translate(layers_of(parameters_of(network, BACKBONE)), "image_to_text", x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_without_cycles_nothing_else_changes(network: CtmwaNetwork) -> None:
    text, image, _ = batch()
    layer = layers_of(parameters_of(network, BACKBONE))
    with_them, without = run(network), run_network(layer, text, image, {}, with_cycles=False)
    assert without.text_cycle is None
    assert without.image_cycle is None
    assert torch.equal(with_them.joint_logits, without.joint_logits)
    assert set(translation_losses(without)) == {"text_from_image", "image_from_text"}


def test_initial_values_are_kaiming_s_and_the_translators_begin_smaller() -> None:
    torch.manual_seed(0)
    network = CtmwaNetwork(300, 200, embedding=100, class_count=3, weight_net_width=128)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and module.weight.numel() > 5000:
            rows = 5 if name.endswith("hidden") else 1
            expected = math.sqrt(2 / (rows * module.in_features))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.03), name
            assert not module.bias.any()


def test_sizes_are_those_of_the_authors_program() -> None:
    network = CtmwaNetwork(768, 512, embedding=512, class_count=3, weight_net_width=128)
    assert sum(p.numel() for p in network.parameters()) == 9_127_191  # 15,685,911 with the dead ones
    assert set(dict(network.named_children())) == {*BACKBONE, *WEIGHT_NETS}
    assert network.text_neck.linear1.out_features == (768 + 512 + 512) // 2
    assert network.joint_classifier.linear1.out_features == (2 * 512 + 3) // 2


def test_dropout_takes_a_head_as_a_whole_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    masks = draw_masks(20_000, 0.3, torch.zeros(1, dtype=torch.float64))
    assert tuple(masks) == CALLS
    for mask in masks.values():
        assert mask.shape == (20_000, 2)
        np.testing.assert_allclose(mask.unique(), [0.0, 1 / 0.7])
        np.testing.assert_allclose(mask.mean(0), 1.0, atol=0.02)
    assert not torch.equal(masks[CALLS[0]], masks[CALLS[1]])
    assert draw_masks(4, 0.0, torch.zeros(1)) == {}
