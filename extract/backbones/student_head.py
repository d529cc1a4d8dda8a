"""What stands on a student's image vector: three classes, through no or one hidden layer. Knows no image network."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sentifuse import ConfigError

__all__ = ["CLASS_COUNT", "HEADS", "LinearHead", "MlpHead", "TwoLayerHead", "build_head", "hidden_width"]

# Shapes: B batch, D width of the image vector, W hidden width, K = 3 classes.

CLASS_COUNT = 3
GELUS = {"exact": "none", "tanh": "tanh"}  # ours -> torch's `approximate`


class TwoLayerHead(nn.Module):
    """Linear, GELU, Linear: the head of "The Emotions of the Crowd" (ECAI 2023), 32 wide there."""

    def __init__(self, width: int, hidden: int, *, gelu: str = "exact") -> None:
        super().__init__()
        if gelu not in GELUS:
            raise ConfigError.unknown("gelu", gelu, GELUS, where="head of the student")
        self.hidden = nn.Linear(width, hidden)
        self.classifier = nn.Linear(hidden, CLASS_COUNT)
        self.gelu = gelu

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) → logits (B, K), hidden (B, W)."""
        hidden = F.gelu(self.hidden(x), approximate=GELUS[self.gelu])
        return self.classifier(hidden), hidden


class MlpHead(nn.Module):
    """Layer norm, Linear, GELU, dropout, Linear: a probe on cached embeddings."""

    def __init__(self, width: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, CLASS_COUNT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) → logits (B, K), hidden (B, W), the latter before dropout."""
        hidden = F.gelu(self.hidden(self.norm(x)))
        return self.classifier(self.dropout(hidden)), hidden


class LinearHead(nn.Module):
    """One linear layer; the hidden vector is the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, CLASS_COUNT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) → logits (B, K), hidden (B, D)."""
        return self.classifier(x), x


# Kind -> how it is made of its entry in config.json.
HEADS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "two_layer": lambda c: TwoLayerHead(int(c["in"]), int(c["width"]), gelu=str(c.get("gelu", "exact"))),
    "mlp": lambda c: MlpHead(int(c["in"]), int(c["width"]), dropout=float(c.get("dropout", 0.0))),
    "linear": lambda c: LinearHead(int(c["in"])),
}


def build_head(config: Mapping[str, Any]) -> nn.Module:
    """The head that a student's config.json names; its weights are torch's own start, from the global generator.

    Raises
    ------
    ConfigError
        An unknown kind, or a width that is not given.
    """
    kind = str(config.get("kind"))
    if kind not in HEADS:
        raise ConfigError.unknown("kind of head", kind, HEADS, where="config.json of the student")
    try:
        return HEADS[kind](config)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"config.json of the student: head {kind}: expected in and width, found {dict(config)}"
        ) from error


def hidden_width(config: Mapping[str, Any]) -> int:
    """W of a head's hidden vector, which the encoder stores as the embedding of a probe."""
    return int(config["in"] if config["kind"] == "linear" else config["width"])
