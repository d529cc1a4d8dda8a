"""RNN-CA's golden file catches the mistakes one makes: each is put in, and some row fails."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sentifuse.fuse.golden import rnn_ca as rnn_ca_golden
from sentifuse.fuse.golden.file import read_golden
from sentifuse.fuse.heads import rnn_ca_embedding
from sentifuse.fuse.heads.rnn_ca_embedding import BiRnn, RnnCaConfig
from sentifuse.fuse.layers.masked import keep_real, masked_softmax

GOLDEN = Path(__file__).parents[2] / "golden" / "heads" / "rnn_ca_s1.npz"
Patch = Callable[[pytest.MonkeyPatch], None]


def failing() -> list[str]:
    return [f"{row.stage} {row.quantity}" for row in rnn_ca_golden.check(read_golden(GOLDEN)) if not row.is_within]


def softmax(change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Patch:
    return lambda patch: patch.setattr(rnn_ca_embedding, "masked_softmax", change)


def words_only(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return masked_softmax(scores, mask & (torch.arange(mask.shape[1]) > 0))


def two_softmaxes(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    words = masked_softmax(scores[:, 1:], mask[:, 1:])
    return torch.cat([scores[:, :1].sigmoid(), words * (1 - scores[:, :1].sigmoid())], 1)


def states(run: Callable[[BiRnn, torch.Tensor, torch.Tensor], torch.Tensor]) -> Patch:
    return lambda patch: patch.setattr(BiRnn, "forward", run)


def backward_from_pads(self: BiRnn, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return keep_real(torch.cat([self.ahead(words)[0], self.back(words.flip(1))[0].flip(1)], -1), mask)


def not_turned_back(self: BiRnn, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    turned = rnn_ca_embedding.turn_round(words, mask)
    return keep_real(torch.cat([self.ahead(words)[0], self.back(turned)[0]], -1), mask)


def directions_exchanged(self: BiRnn, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    a, b = BIRNN(self, words, mask).chunk(2, -1)
    return torch.cat([b, a], -1)


def gates_exchanged(self: BiRnn, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first two gates of either cell: i and f, r and z."""
    other = copy.deepcopy(self)
    for weight in other.parameters():
        hidden = other.ahead.hidden_size
        first, second, rest = weight.detach().clone().split([hidden, hidden, len(weight) - 2 * hidden])
        weight.data = torch.cat([second, first, rest])
    return BIRNN(other, words, mask)


BIRNN = BiRnn.forward


def ranking(
    combine: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor], *, cosine: bool = True
) -> Patch:
    """Another L_r from S, its diagonal and what is no negative."""

    def loss(image: torch.Tensor, sentence: torch.Tensor, ids: Sequence[str], *, margin: float) -> torch.Tensor:
        if cosine:
            image, sentence = F.normalize(image, dim=-1), F.normalize(sentence, dim=-1)
        similarity = image @ sentence.T
        return combine(similarity, similarity.diagonal()[:, None], torch.eye(len(ids), dtype=torch.bool))

    return lambda patch: patch.setattr(rnn_ca_embedding, "ranking_loss", loss)


def both(s: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return F.relu(0.2 - own + s) + F.relu(0.2 - own + s.T)


def other_config(**settings: Any) -> Patch:
    return lambda patch: patch.setattr(
        rnn_ca_golden, "RnnCaConfig", lambda **asked: RnnCaConfig(**{**asked, **settings})
    )


MISTAKES: dict[str, Patch] = {
    "attention over words only": softmax(words_only),
    "image beside the softmax": softmax(two_softmaxes),
    "pads take attention": softmax(lambda scores, mask: scores.softmax(-1)),
    "masked after the softmax only": softmax(lambda scores, mask: scores.softmax(-1) * mask),
    "backward direction begins at pads": states(backward_from_pads),
    "backward states not turned back": states(not_turned_back),
    "directions exchanged": states(directions_exchanged),
    "gates exchanged": states(gates_exchanged),
    "no tanh in the score": lambda patch: patch.setattr(torch, "tanh", lambda x: x),
    "pads count in the sentence": lambda patch: patch.setattr(
        rnn_ca_embedding, "masked_mean", lambda values, mask: values.mean(1)
    ),
    "mean over negatives": ranking(
        lambda s, own, same: both(s, own).masked_fill(same, 0).sum() / (len(s) * (len(s) - 1))
    ),
    "own pair among the negatives": ranking(lambda s, own, same: both(s, own).sum() / len(s)),
    "one direction only": ranking(lambda s, own, same: F.relu(0.2 - own + s).masked_fill(same, 0).sum() / len(s)),
    "hardest negative only": ranking(lambda s, own, same: both(s, own).masked_fill(same, 0).amax(1).sum() / len(s)),
    "dot products, not cosines": ranking(
        lambda s, own, same: both(s, own).masked_fill(same, 0).sum() / len(s), cosine=False
    ),
    "no margin": other_config(rank_margin=0.0),
    "no ranking loss": other_config(rank_weight=0.0),
    "ranking loss in full": other_config(rank_weight=1.0),
}


def test_the_ranking_of_these_tests_is_right_without_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking(lambda s, own, same: both(s, own).masked_fill(same, 0).sum() / len(s))(monkeypatch)
    assert failing() == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MISTAKES[mistake](monkeypatch)
    assert failing()
