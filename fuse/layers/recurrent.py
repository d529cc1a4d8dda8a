"""Recurrent layers over texts of different lengths: pads are never a step, and no loop runs over the pairs.

A layer that reads forward needs no packing: pads stand behind the words, so no state of a word has seen one. To read
backward, each text is turned round inside its own length and read forward. On a CPU this takes about half the time of
packed sequences, which torch computes without its fast kernels.
"""

import torch
from torch import nn

from sentifuse import ConfigError
from sentifuse.fuse.layers.masked import keep_real

# Shapes: B texts, T words of the longest, D width of a word, d width of the states.  Masks are True for real words, and
#         the real words of a text stand before its pads.


class ForwardLstm(nn.Module):
    """One LSTM from the first word to the last; zero at pads. (B, T, D), (B, T) → (B, T, d)."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_width, width, batch_first=True)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The state after each word."""
        states: torch.Tensor = self.lstm(words)[0]
        return keep_real(states, mask)


class BiLstm(nn.Module):
    """Two LSTMs of d/2 units, one from each end of the text, side by side; zero at pads. (B, T, D) → (B, T, d)."""

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        check_even(width)
        self.ahead = ForwardLstm(input_width, width // 2)
        self.back = ForwardLstm(input_width, width // 2)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[state after the words up to here ; state after the words from the end down to here]."""
        turned = self.back(turn_round(words, mask), mask)
        return torch.cat([self.ahead(words, mask), turn_round(turned, mask)], -1)


def turn_round(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each text from its last word to its first, pads where they were; twice is the identity. (B, T, D) → (B, T, D)."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = mask.sum(1, keepdim=True) - 1
    source = torch.where(mask, last - places, places)  # (B, T)
    return values.gather(1, source.unsqueeze(-1).expand_as(values))


def check_even(width: int) -> None:
    """Refuse a width that two directions cannot share.

    Raises
    ------
    ConfigError
        The width is odd.
    """
    if width % 2:
        raise ConfigError(f"width: expected an even number, half of it for each direction, found {width}")
