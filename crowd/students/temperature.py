"""Temperature scaling: one number that makes a student's shares mean what they say on its validation part.

Divides all logits alike, so no prediction changes (Guo, Pleiss, Sun, Weinberger, ICML 2017).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["HIGHEST", "LOWEST", "fit_temperature"]

# Where every validation image is right, the best temperature is 0: no share may become so sure of so few images.
LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(logits: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> float:
    """The T in [0.05, 20] with the lowest negative log-likelihood of logits / T.

    Parameters
    ----------
    logits
        (V, K), V ≥ 1.
    classes
        (V,) positions of the classes; those of the teacher, where nobody else labelled the images.
    """
    scores = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        shares = log_softmax(scores / math.exp(log_temperature), axis=1)
        return -float(shares[np.arange(len(classes)), classes].mean())

    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return float(np.clip(math.exp(found.x), LOWEST, HIGHEST))
