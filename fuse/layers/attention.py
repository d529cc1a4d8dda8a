"""Attention as the baselines use it: additive with given queries, and multi-head scaled dot products; both masked.

What a mask leaves out gets weight 0; where nothing is real all weights are 0 and so is the result, never NaN.
"""

import torch
from torch import nn

from sentifuse.fuse.layers.dropout import dropout
from sentifuse.fuse.layers.masked import masked_softmax

# Shapes: B pairs, J positions of a memory, I positions that ask, d width, h parallel heads of d/h each.


class AdditiveAttention(nn.Module):
    """Att(q; K, M): s_j = wᵀ tanh(W_k K_j + b + Σ_i W_i q_i), α = msoftmax(s, M), Σ_j α_j K_j.

    Parameters
    ----------
    queries
        How many query vectors there are, each with its own W_i.
    """

    def __init__(self, width: int, *, queries: int = 1) -> None:
        super().__init__()
        self.key = nn.Linear(width, width)  # W_k, b
        self.queries = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(queries)])  # W_i
        self.score = nn.Linear(width, 1, bias=False)  # w

    def read(self, keys: torch.Tensor, mask: torch.Tensor) -> "Memory":
        """A memory to ask once or often: W_k K + b is computed here. (B, J, d), (B, J)."""
        return Memory(self, keys, mask)

    def forward(self, keys: torch.Tensor, mask: torch.Tensor, *queries: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The weighted sum (B, d) and the weights α (B, J); queries are (B, d)."""
        return self.read(keys, mask).ask(*queries)


class Memory:
    """The keys of an additive attention, prepared once for several queries."""

    def __init__(self, attention: AdditiveAttention, keys: torch.Tensor, mask: torch.Tensor) -> None:
        self.attention = attention
        self.keys = keys
        self.mask = mask
        self.projected = attention.key(keys)  # (B, J, d)

    def ask(self, *queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum (B, d) and the weights α (B, J)."""
        projected = [layer(query) for layer, query in zip(self.attention.queries, queries, strict=True)]
        query = torch.stack(projected).sum(0)  # (B, d)
        scores = self.attention.score(torch.tanh(self.projected + query.unsqueeze(1))).squeeze(-1)
        weights = masked_softmax(scores, self.mask)
        return torch.einsum("bj,bjd->bd", weights, self.keys), weights


class MultiHeadAttention(nn.Module):
    """W_o [head_1 ; … ; head_h], head = softmax(q kᵀ / √(d/h)) v; dropout on the weights, as in BERT."""

    def __init__(self, width: int, heads: int, *, weight_dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected a width that {heads} heads can share equally, found {width}")
        self.heads = heads
        self.weight_dropout = weight_dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, asking: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, I, d), (B, J, d), (B, J) → (B, I, d) and the mean of the heads' weights (B, I, J)."""
        q, k, v = self._split(self.query(asking)), self._split(self.key(memory)), self._split(self.value(memory))
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)  # (B, h, I, J)
        weights = masked_softmax(scores, mask[:, None, None, :])
        heads = dropout(weights, self.weight_dropout, training=self.training) @ v  # (B, h, I, d/h)
        return self.output(heads.transpose(1, 2).flatten(2)), weights.mean(1)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(*values.shape[:2], self.heads, -1).transpose(1, 2)  # (B, h, ·, d/h)
