"""A few pairs explained: the figures of `fuse.explain`, chosen by what the run said about them.

Looks at pairs of the part, which `explain_pairs` counts. Without features there are no figures, and the reason.
"""

from dataclasses import dataclass

import numpy as np

from sentifuse import SentifuseError
from sentifuse.fuse.explain.draw import draw
from sentifuse.fuse.explain.errors import rank_errors
from sentifuse.fuse.explain.explain import explain_pairs
from sentifuse.fuse.explain.explanation import PairExplanation
from sentifuse.fuse.report.picture import Picture, from_photo_figure
from sentifuse.fuse.report.recorded import Recorded
from sentifuse.fuse.run import Predictions

ERRORS, RIGHT, DOUBTFUL = "a confident error", "the most confident right answer", "the answer least certain"
N_ERRORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The figures, or why there are none."""

    pictures: tuple[Picture, ...]
    problem: str  # "" where there are pictures
    is_counted: bool  # whether the look at the part was counted already


def explain_some(recorded: Recorded, *, device: str = "auto", reader: str = "mmap") -> Attention:
    """Figures of the two most confident errors, the most confident right answer and the least certain one."""
    chosen = choose(recorded.predictions)
    try:
        found = explain_pairs(
            recorded.run,
            tuple(chosen),
            split=recorded.split,
            artifacts=recorded.artifacts,
            device=device,
            reader=reader,
        )
    except SentifuseError as error:  # features gone, damaged or made anew; weights damaged; no such device
        return Attention(pictures=(), problem=str(error), is_counted=False)
    if not any(one.reasons.has_any for one in found):
        problem = f"Head {recorded.run.document['head']} shows no weights, gates or voices: only its probabilities."
        return Attention(pictures=(), problem=problem, is_counted=True)
    pictures = tuple(_picture(one, why) for one, why in zip(found, chosen.values(), strict=True))
    return Attention(pictures=pictures, problem="", is_counted=True)


def choose(predictions: Predictions) -> dict[str, str]:
    """Id → why this pair; each pair once."""
    confidence = predictions.probabilities.max(1)
    right = np.flatnonzero(predictions.predicted == predictions.labels)
    chosen = dict.fromkeys(rank_errors(predictions)[:N_ERRORS], ERRORS)
    if len(right):
        chosen.setdefault(predictions.ids[right[confidence[right].argmax()]], RIGHT)
    chosen.setdefault(predictions.ids[confidence.argmin()], DOUBTFUL)
    return chosen


def _picture(explanation: PairExplanation, why: str) -> Picture:
    voices = ", ".join(
        f"{name} {p:.3f}" for name, p in zip(explanation.classes, explanation.probabilities, strict=True)
    )
    quantities = "".join(f"; {one.title} {one.value:.2f}" for one in explanation.reasons.quantities)
    return from_photo_figure(
        draw(explanation),
        alt=f"Pair {explanation.id}, {explanation.verdict}: {voices}{quantities}. Text: {explanation.text or 'none'}",
        caption=f"Pair {explanation.id}: {why}.",
    )
