"""The table of fusion heads: a new head is one file in this folder and one line here.

Loads a head only when asked for; knows nothing of what is in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from sentifuse import ConfigError

if TYPE_CHECKING:
    from sentifuse.fuse.heads.head import Head

HEADS: dict[str, str] = {
    "itin": "sentifuse.fuse.heads.itin:Itin",
    "ctmwa": "sentifuse.fuse.heads.ctmwa:Ctmwa",
    "rnn_ca_embedding": "sentifuse.fuse.heads.rnn_ca_embedding:RnnCaEmbedding",
    "rnn_ca": "sentifuse.fuse.heads.rnn_ca_embedding:RnnCa",
    "rnn_embedding": "sentifuse.fuse.heads.rnn_ca_embedding:RnnEmbedding",
    "text_only": "sentifuse.fuse.heads.text_only:TextOnly",
    "image_only": "sentifuse.fuse.heads.image_only:ImageOnly",
    "logreg": "sentifuse.fuse.heads.logreg:LogReg",
    "crowd_linear": "sentifuse.fuse.heads.crowd_linear:CrowdLinear",
    "late_lr": "sentifuse.fuse.heads.late_lr:LateLr",
    "concat_mlp": "sentifuse.fuse.heads.concat_mlp:ConcatMlp",
    "gmu": "sentifuse.fuse.heads.gmu:Gmu",
    "multisentinet": "sentifuse.fuse.heads.multisentinet:MultiSentiNet",
    "comn_like": "sentifuse.fuse.heads.comn_like:ComnLike",
    "mvan_like": "sentifuse.fuse.heads.mvan_like:MvanLike",
    "cross_attention": "sentifuse.fuse.heads.cross_attention:CrossAttention",
    "clmlf_like": "sentifuse.fuse.heads.clmlf_like:ClmlfLike",
    "ccr_like": "sentifuse.fuse.heads.ccr_like:CcrLike",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadInfo:
    """What a person must know to choose a head."""

    name: str
    description: str
    needs: tuple[str, ...]  # "encoder.field"
    presets: tuple[str, ...]


def load_head(name: str) -> type[Head]:
    """The class of a head.

    Raises
    ------
    ConfigError
        There is no head of this name.
    """
    if name not in HEADS:
        raise ConfigError.unknown("head", name, HEADS, where="--head")
    module, _, attribute = HEADS[name].partition(":")
    head: type[Head] = getattr(import_module(module), attribute)
    return head


def list_heads() -> list[HeadInfo]:
    """All heads in the order of the table."""
    return [_describe(name) for name in HEADS]


def _describe(name: str) -> HeadInfo:
    head = load_head(name)
    presets = [preset for preset in head.PRESETS if "@" not in preset]
    needs = tuple(request.key for request in head.needs)
    return HeadInfo(name=name, description=head.description, needs=needs, presets=tuple(presets))
