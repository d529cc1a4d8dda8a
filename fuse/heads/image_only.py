"""The image alone: a small MLP on the context vector beside the mean of the regions. Reads nothing of the text."""

from sentifuse.fuse.batches import FieldRequest
from sentifuse.fuse.heads.pooled import PooledMlp


class ImageOnly(PooledMlp):
    """MLP on [context vector ; masked mean of all stored regions]."""

    description = "the image alone: a small MLP on the context vector and the mean of the regions"
    needs = (
        FieldRequest(encoder="context", field="vector"),
        FieldRequest(encoder="regions", field="features"),
    )
