"""RNN-CA Embedding against its formulas written as loops, in every form that its settings give."""

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
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.heads.rnn_ca_embedding import (
    IMAGE,
    PIECES,
    STATES,
    RnnCa,
    RnnCaConfig,
    RnnCaEmbedding,
    RnnEmbedding,
    ranking_loss,
)

WIDTHS = {STATES: 5, IMAGE: 4}
MakeBatch = Callable[..., Batch]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def rnn_loop(rnn: torch.nn.RNNBase, words: list[np.ndarray]) -> list[np.ndarray]:
    """One direction, words in the order given. LSTM gates in the order i, f, g, o; GRU gates r, z, n."""
    w_i, w_h, b_i, b_h = (numbers(getattr(rnn, f"{n}_l0")) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    u = rnn.hidden_size
    h, c, states = np.zeros(u), np.zeros(u), []
    for x in words:
        a, b = w_i @ x + b_i, w_h @ h + b_h
        new = np.zeros(u)
        for j in range(u):
            if isinstance(rnn, torch.nn.LSTM):
                i, f, g, o = (a[k * u + j] + b[k * u + j] for k in range(4))
                c[j] = sigmoid(f) * c[j] + sigmoid(i) * math.tanh(g)
                new[j] = sigmoid(o) * math.tanh(c[j])
            else:
                r, z = (sigmoid(a[k * u + j] + b[k * u + j]) for k in range(2))
                n = math.tanh(a[2 * u + j] + r * b[2 * u + j])
                new[j] = (1 - z) * n + z * h[j]
        h = new
        states.append(h)
    return states


def states_loop(head: RnnCaEmbedding, words: list[np.ndarray]) -> list[np.ndarray]:
    backward = rnn_loop(head.rnn.back, words[::-1])[::-1]
    return [np.concatenate(both) for both in zip(rnn_loop(head.rnn.ahead, words), backward, strict=True)]


def linear_loop(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return numbers(layer.weight) @ x + (0.0 if layer.bias is None else numbers(layer.bias))


def head_loop(head: RnnCaEmbedding, batch: Batch, row: int) -> tuple[np.ndarray, list[float]]:
    """Logits of one pair and its weights (image first, if there is one), over what is real."""
    config, width = head.config, 2 * head.config.hidden
    key = STATES if config.words == "states" else PIECES
    words = [v for v, real in zip(batch.values[key][row].numpy(), batch.masks[key][row], strict=True) if real]
    if config.words == "embeddings":
        words = [numbers(head.embedding.weight)[int(v) if head.is_known[int(v)] else 0] for v in words]
    image = [linear_loop(head.image, batch.values[IMAGE][row].numpy())] if batch.masks[IMAGE][row] else []
    if config.image_in_rnn:
        states = states_loop(head, image + words)
        image, states = states[: len(image)], states[len(image) :]
    else:
        states = states_loop(head, words)
    sentence = sum(states, np.zeros(width)) / max(1, len(states))
    if not config.attention:
        e = image[0] if image else np.zeros(width)
        return linear_loop(head.classifier, np.concatenate([sentence, e])), []
    sequence = image + states
    powers = [math.exp(linear_loop(head.score, np.tanh(linear_loop(head.attention, h)))[0]) for h in sequence]
    weights = [p / sum(powers) for p in powers]
    joint = sum((a * h for a, h in zip(weights, sequence, strict=True)), np.zeros(width))
    return linear_loop(head.classifier, joint), weights


FORMS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"cell": "gru"},
    "no_attention": {"attention": False},
    "image_in_rnn": {"image_in_rnn": True},
    "gru_image_in_rnn": {"cell": "gru", "image_in_rnn": True},
    "image_in_rnn_no_attention": {"image_in_rnn": True, "attention": False},
    "embeddings": {"words": "embeddings", "word_width": 3, "vocabulary": 11},
    "embeddings_image_in_rnn": {"words": "embeddings", "word_width": 3, "vocabulary": 11, "image_in_rnn": True},
}


def build(form: str, **settings: Any) -> RnnCaEmbedding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        config = RnnCaConfig(**{"hidden": 3, "attention_width": 6, **FORMS[form], **settings})
        return RnnCaEmbedding(config, WIDTHS, 3).double().eval()


def batch_of(form: str, make_batch: MakeBatch, **settings: Any) -> Batch:
    batch = make_batch(WIDTHS, **settings)
    if FORMS[form].get("words") != "embeddings":
        return batch
    rng = np.random.default_rng(3)
    pieces = torch.from_numpy(rng.integers(0, 11, size=batch.masks[STATES].shape)).double()
    values = {PIECES: pieces, IMAGE: batch.values[IMAGE]}
    return replace(batch, values=values, masks={PIECES: batch.masks[STATES], IMAGE: batch.masks[IMAGE]})


SHAPES: dict[str, Any] = {
    "lengths": (5, 1, 3, 0, 4, 0),
    "regions": (0,) * 6,
    "has_context": (True, True, False, True, False, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_forward_is_its_formulas_written_as_loops(form: str, make_batch: MakeBatch) -> None:
    head, batch = build(form), batch_of(form, make_batch, **SHAPES)
    if head.embedding is not None:
        head.is_known[[2, 5, 7]] = False
    output = head(batch)
    for row in range(6):
        logits, weights = head_loop(head, batch, row)
        np.testing.assert_allclose(numbers(output.logits[row]), logits, atol=1e-10, rtol=0)
        if head.config.attention:
            found = numbers(output.details["attention"][row])
            first = 0 if batch.masks[IMAGE][row] else 1
            np.testing.assert_allclose(found[first : first + len(weights)], weights, atol=1e-10, rtol=0)
            assert found.sum() == pytest.approx(min(1, len(weights)))
            assert output.details["image_share"][row] == found[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_obeys_masks(form: str, make_batch: MakeBatch) -> None:
    head, batch = build(form), batch_of(form, make_batch, **SHAPES)
    masked = {
        key: value.masked_fill(~(mask if value.dim() == mask.dim() else mask.unsqueeze(-1)), math.nan)
        for (key, value), mask in zip(batch.values.items(), batch.masks.values(), strict=True)
    }
    torch.testing.assert_close(head(replace(batch, values=masked)).logits, head(batch).logits, atol=0, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_and_leaves_no_parameter_out(form: str, make_batch: MakeBatch) -> None:
    head = build(form).train()
    shapes = {"lengths": (5, 4, 3, 2), "regions": (0,) * 4, "has_context": (True,) * 4}
    batch = batch_of(form, make_batch, **shapes)
    head.loss(head(batch), batch).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-2)
    losses = [head.training_step(batch, optimiser) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]


def ranking_by_loops(image: np.ndarray, sentence: np.ndarray, ids: list[str], margin: float) -> float:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    total = 0.0
    for i in range(len(ids)):
        own = cosine(image[i], sentence[i])
        for k in range(len(ids)):
            if ids[k] != ids[i]:
                total += max(0.0, margin - own + cosine(image[i], sentence[k]))
                total += max(0.0, margin - own + cosine(image[k], sentence[i]))
    return total / len(ids)


@pytest.mark.parametrize("ids", [list("abcde"), list("abcab"), list("aaaaa")])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_ranking_loss_is_its_sum_written_as_loops(ids: list[str], margin: float) -> None:
    generator = torch.Generator().manual_seed(2)
    image, sentence = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    found = ranking_loss(image, sentence, ids, margin=margin).item()
    assert found == pytest.approx(ranking_by_loops(numbers(image), numbers(sentence), ids, margin), abs=1e-10)


def test_pairs_that_lack_a_side_take_no_part_in_the_ranking(make_batch: MakeBatch) -> None:
    head, batch = build("lstm"), make_batch(WIDTHS, **SHAPES)
    output = head(batch)  # only pairs 0 and 1 have both
    image, sentence = (numbers(output.details[name])[:2] for name in ("image", "sentence"))
    assert head.rank(output, batch).item() == pytest.approx(ranking_by_loops(image, sentence, ["p0", "p1"], 0.2))


@pytest.mark.parametrize("lengths", [(3, 0), (0, 0)])
def test_ranking_loss_of_fewer_than_two_whole_pairs_is_zero(lengths: tuple[int, ...], make_batch: MakeBatch) -> None:
    head, batch = build("lstm"), make_batch(WIDTHS, lengths=lengths, regions=(0, 0), has_context=(True, True))
    loss = head.rank(head(batch), batch)
    assert loss.item() == 0.0
    head.loss(head(batch), batch).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_image_dominates_where_its_weight_is_the_largest_of_all(make_batch: MakeBatch) -> None:
    head, batch = build("lstm"), make_batch(WIDTHS, **SHAPES)
    with torch.no_grad():
        head.score.weight.mul_(30)
        output = head(batch)
    weights = output.details["attention"]
    for row in range(6):
        assert output.details["image_dominates"][row].item() == bool(weights[row, 0] > weights[row, 1:].max())
    assert output.details["image_dominates"][3]  # it has no words
    found = head.statistics(output, batch)
    assert found["image_share"][:2].tolist() == weights[:2, 0].tolist()
    assert found["image_share"][2:].isnan().all()
    assert found["image_dominates"][2:].isnan().all()
    assert head.statistics(output, batch).keys() == {"image_share", "image_dominates"}
    assert build("no_attention").statistics(output, batch) == {}


def test_ablations_are_the_head_without_one_part() -> None:
    whole, ca, embedding = (
        resolve(name, RnnCaConfig, load_head(name).PRESETS) for name in ("rnn_ca_embedding", "rnn_ca", "rnn_embedding")
    )
    assert (load_head("rnn_ca"), load_head("rnn_embedding")) == (RnnCa, RnnEmbedding)
    assert whole.head.attention
    assert whole.head.rank_weight > 0
    assert ca.head == replace(whole.head, rank_weight=0.0)
    assert embedding.head == replace(whole.head, attention=False)
    assert whole.train == ca.train == embedding.train
    for preset, head in (("rnn_ca", ca), ("rnn_embedding", embedding)):
        assert resolve("rnn_ca_embedding", RnnCaConfig, RnnCaEmbedding.PRESETS, preset=preset).head == head.head


def test_embeddings_read_pieces_and_no_states() -> None:
    config = RnnCaConfig(words="embeddings")
    assert [request.key for request in RnnCaEmbedding.requests(config)] == [PIECES, IMAGE]
    assert [request.key for request in RnnCaEmbedding.requests(RnnCaConfig())] == [STATES, IMAGE]


def test_pieces_that_no_training_text_has_share_one_vector(make_batch: MakeBatch) -> None:
    head = build("embeddings", standardise="image")
    batch = batch_of("embeddings", make_batch, **SHAPES)
    head.prepare([batch])
    seen = set(batch.values[PIECES][batch.masks[PIECES]].long().tolist())
    assert set(head.is_known.nonzero().ravel().tolist()) == seen
    unseen = [*sorted(set(range(1, 11)) - seen)[:2], 9999]  # also one that the table has no row for
    found = []
    for piece in unseen:
        values = batch.values[PIECES].clone()
        values[0, 0] = piece
        found.append(head(replace(batch, values={**batch.values, PIECES: values})).logits)
    assert len(unseen) == 3
    assert torch.equal(found[0], found[1])
    twin = build("embeddings", standardise="image")
    twin.load_state_dict(head.state_dict())
    assert torch.equal(twin(batch).logits, head(batch).logits)


def test_pieces_beyond_the_vocabulary_are_refused_with_what_to_type(make_batch: MakeBatch) -> None:
    head, batch = build("embeddings"), batch_of("embeddings", make_batch, **SHAPES)
    batch.values[PIECES][0, 0] = 31000
    with pytest.raises(ConfigError, match=r"word piece 31000, expected numbers below 11\. .*--set vocabulary=N"):
        head.prepare([batch])


def test_numbers_of_half_precision_are_refused_as_pieces(make_batch: MakeBatch) -> None:
    head, batch = build("embeddings"), batch_of("embeddings", make_batch, **SHAPES)
    values = {**batch.values, PIECES: batch.values[PIECES].bfloat16()}
    with pytest.raises(ValueError, match="rounds the numbers"):
        head(replace(batch, values=values))


def test_features_of_another_width_are_refused(make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match=r"context\.vector: expected width 4, found 6"):
        build("lstm")(make_batch({**WIDTHS, IMAGE: 6}))


def test_words_left_out_in_training_carry_no_weight(make_batch: MakeBatch) -> None:
    head = build("lstm", left_out_words=0.9).train()
    batch = make_batch(WIDTHS, lengths=(9, 9), regions=(0, 0), has_context=(True, True))
    torch.manual_seed(0)
    weights = head(batch).details["attention"]
    assert (weights[:, 2:] == 0).any()
    assert (weights[:, :2] > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())
