"""Three steps that the authors' program of ITIN takes and the paper does not: unit length, regrouping, no masks.

Described from what the program computes; its code has no licence and none of it is here.
"""

import torch
from torch import nn

from sentifuse.fuse.layers.masked import masked_softmax

# Shapes: B batch, m regions, n words, L fixed length, D width.

TINY = 1e-8  # added to a length before dividing by it, as in the program


def unit_length(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors along the last axis divided by their Euclidean length; zero stays zero."""
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / (lengths + TINY)


class Regroup(nn.Module):
    """Self-attention among the messages of an image: each becomes a mixture of those of all regions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, messages: torch.Tensor, has_region: torch.Tensor) -> torch.Tensor:
        """(B, m, D) with (B, m) → (B, m, D); regions that are not there give nothing."""
        scores = self.query(messages) @ self.key(messages).transpose(1, 2)  # (B, m, m)
        weights = masked_softmax(scores / messages.shape[-1] ** 0.5, has_region[:, None, :])
        return weights @ messages


def fill_up(words: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts cut or filled with zeros to one length, and a mask that takes all of it for words: (B, L, D), (B, L).

    The program fills up with the encoder's answer to its padding token; a cache that stores no padding has zeros there.
    The length is fixed, so batch mates still change nothing.
    """
    b, n, d = words.shape
    kept = words[:, :length]
    filled = torch.cat([kept, kept.new_zeros(b, max(0, length - n), d)], 1)
    return filled, torch.ones(b, length, dtype=torch.bool, device=words.device)
