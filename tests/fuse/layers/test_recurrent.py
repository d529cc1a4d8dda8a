"""Recurrent layers read real words only, each text as if it were alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sentifuse import ConfigError
from sentifuse.fuse.layers.recurrent import BiLstm, ForwardLstm, turn_round

LENGTHS = (5, 1, 3, 0)


@pytest.fixture
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Words with numbers under the pads, on purpose."""
    words = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return words, torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]


def real_words(loops: Any, words: torch.Tensor, row: int) -> list[np.ndarray]:
    return [loops.array(word) for word in words[row, : LENGTHS[row]]]


def check(loops: Any, states: torch.Tensor, words: torch.Tensor, loop: Any) -> None:
    for row, length in enumerate(LENGTHS):
        for place, expected in enumerate(loop(real_words(loops, words, row))):
            np.testing.assert_allclose(loops.array(states[row, place]), expected, atol=1e-12)
        assert (states[row, length:] == 0).all()


def test_forward_lstm_is_its_equations(loops: Any, texts: Any) -> None:
    layer = loops.stirred(ForwardLstm(3, 4))
    check(loops, layer(*texts), texts[0], lambda words: loops.lstm(layer.lstm, words))


def test_bilstm_reads_each_text_from_its_own_last_word(loops: Any, texts: Any) -> None:
    layer = loops.stirred(BiLstm(3, 8))
    check(loops, layer(*texts), texts[0], lambda words: loops.both_ways(layer, words))


def test_bilstm_is_torchs_packed_one(loops: Any, texts: Any) -> None:
    layer = loops.stirred(BiLstm(3, 8))
    packed = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True).double()
    packed.load_state_dict(
        {
            **layer.ahead.lstm.state_dict(),
            **{f"{name}_reverse": value for name, value in layer.back.lstm.state_dict().items()},
        }
    )
    words, mask = texts
    runs = pack_padded_sequence(words[:3], mask[:3].sum(1), batch_first=True, enforce_sorted=False)  # none of 0 words
    expected = pad_packed_sequence(packed(runs)[0], batch_first=True)[0]
    torch.testing.assert_close(layer(*texts)[:3], expected, atol=1e-12, rtol=0)


def test_turning_round_twice_is_the_identity(texts: Any) -> None:
    words, mask = texts
    turned = turn_round(words, mask)
    assert torch.equal(turned[0], words[0].flip(0))
    assert torch.equal(turned[2, :3], words[2, :3].flip(0))
    assert torch.equal(turned[2, 3:], words[2, 3:])
    assert torch.equal(turn_round(turned, mask), words)


def test_the_gradient_of_a_pad_is_zero(loops: Any, texts: Any) -> None:
    words, mask = texts
    words = words.clone().requires_grad_()
    loops.stirred(BiLstm(3, 8))(words, mask).square().sum().backward()
    assert (words.grad[~mask] == 0).all()
    assert (words.grad[mask].abs().sum(-1) > 0).all()


def test_two_directions_need_an_even_width() -> None:
    with pytest.raises(ConfigError, match="width: expected an even number, half of it for each direction, found 7"):
        BiLstm(3, 7)
