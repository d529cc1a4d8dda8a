"""The bars of a pair, the same in figure and page: probabilities of every voice, and the quantities by kind."""

from dataclasses import dataclass

from sentifuse.fuse.explain.explanation import PairExplanation

KINDS = {"share": "Shares", "weight": "Weights", "distance": "Translation distances, mean |difference|"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One number beside those it is compared with."""

    title: str
    value: float
    share: float  # of the length that a full bar has
    is_most: bool  # the most probable class; quantities stand for themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Numbers on one scale."""

    title: str
    rows: tuple[Bar, ...]


def probability_bars(explanation: PairExplanation) -> tuple[Bars, ...]:
    """The answer's probabilities first, then those of the head's other voices."""
    voices = [("answer", explanation.probabilities)]
    voices += [(voice.title, voice.probabilities) for voice in explanation.reasons.voices]
    return tuple(
        Bars(
            title=title,
            rows=tuple(
                Bar(
                    title=f"{name} (label)" if name == explanation.label else name,
                    value=value,
                    share=value,
                    is_most=value == max(probabilities),
                )
                for name, value in zip(explanation.classes, probabilities, strict=True)
            ),
        )
        for title, probabilities in voices
    )


def quantity_bars(explanation: PairExplanation) -> tuple[Bars, ...]:
    """The quantities by kind: shares and weights against 1 (or the largest, where that is more), distances together."""
    groups = []
    for kind, title in KINDS.items():
        found = [one for one in explanation.reasons.quantities if one.kind == kind]
        if found:
            most = max([0.0 if kind == "distance" else 1.0, *(one.value for one in found)])
            rows = tuple(
                Bar(title=one.title, value=one.value, share=one.value / most if most > 0 else 0.0, is_most=True)
                for one in found
            )
            groups.append(Bars(title=title, rows=rows))
    return tuple(groups)
