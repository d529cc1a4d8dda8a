"""What the crowd's features add to logistic regression: the same fit with the student's answers beside the others."""

from sentifuse.fuse.features.batches import FieldRequest
from sentifuse.fuse.heads.logreg import LogReg


class CrowdLinear(LogReg):
    """Multinomial logistic regression on standardised [mean of token states ; context vector ; crowd].

    The crowd's part is the student's three probabilities and its embedding; the difference to `logreg` is what it adds.
    """

    description = "logistic regression on [mean token state ; context vector ; crowd embedding and probabilities]"
    needs = (
        *LogReg.needs,
        FieldRequest(encoder="crowd", field="embedding"),
        FieldRequest(encoder="crowd", field="probabilities"),
    )
