"""The text alone: a small MLP on the mean of the word states. The measure of what a fusion head must add to."""

from sentifuse.fuse.features.batches import FieldRequest
from sentifuse.fuse.heads.pooled import PooledMlp


class TextOnly(PooledMlp):
    """MLP on the masked mean of the token states."""

    description = "the text alone: a small MLP on the mean of the token states"
    needs = (FieldRequest(encoder="tokens", field="states"),)
