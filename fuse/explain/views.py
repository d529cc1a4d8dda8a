"""What the three heads of the papers show, each in its paper's own terms; every other head goes the generic path."""

from collections.abc import Callable

from sentifuse.fuse.explain.details import Answer, align, read_details, voice, weigh
from sentifuse.fuse.explain.explanation import Quantity, Reasons
from sentifuse.fuse.infer import softmax

# Shapes: n pieces, m regions, d units of a vector gate, K classes.

DISTANCES = {
    "text_from_image": "text from the image, |t − G(v)|",
    "image_from_text": "image from the text, |v − H(t)|",
    "text_cycle": "text there and back, |t − G(H(t))|",
    "image_cycle": "image there and back, |v − H(G(v))|",
}


def read_reasons(answer: Answer, head_name: str) -> Reasons:
    """The reasons that a head gives for one pair."""
    return VIEWS.get(head_name, read_details)(answer)


def read_itin(answer: Answer) -> Reasons:
    """Figure 7 of the paper: which words each region reads (eq. 6), how far its gate is open (eq. 8), and its weight
    in the pooled vector (eq. 12)."""
    config = answer.head.config
    if config.sources == "context":
        return Reasons(notes=("This run reads both contexts alone (sources=context): no region meets a word.",))
    regions, notes, alignment = [], [], None
    if not answer.region_count:
        return Reasons(notes=("No region: the interaction counts as zero, both contexts answer alone.",))
    if config.alignment and answer.piece_count:
        alignment = align("alignment", "which words each region reads (eq. 6)", answer.array("alignment"), answer)
    elif not config.alignment:
        notes.append("This run has no alignment (alignment=false): each region reads the mean of all words.")
    if config.gate == "none":
        notes.append("This run has no gates (gate=none): every region's words count in full.")
    else:
        gate, title = answer.array("gate"), "gate"
        if gate.ndim == 2:  # a vector gate, (m, d)
            notes.append(f"The gate is a vector of {gate.shape[1]} units per region: its mean is shown.")
            gate, title = gate.mean(1), "gate (mean)"
        regions.append(weigh("gate", title, "regions", gate, answer))
    regions.append(weigh("pool_weights", "weight", "regions", answer.array("pool_weights"), answer))
    return Reasons(region_weights=tuple(regions), alignment=alignment, notes=tuple(notes))


def read_rnn_ca(answer: Answer) -> Reasons:
    """One attention over the image and the words."""
    if not answer.has("attention"):
        return Reasons(notes=("This variant has no attention: it joins image and mean word, and shows nothing else.",))
    joint = weigh("attention", "one attention over image and words", "both", answer.array("attention"), answer)
    share, words = joint.values[0], joint.values[1:]
    notes = []
    if not words:
        notes.append("No text: the image has all of the attention.")
    elif answer.flag("image_dominates"):
        notes.append(
            f"Image-dominating: the image's weight {share:.2f} is above that of every word piece ({max(words):.2f})."
        )
    else:
        notes.append(
            f"Text-dominating: the heaviest word piece has {max(words):.2f}, the image {share:.2f} and all words "
            f"together {sum(words):.2f}."
        )
    quantity = Quantity(
        name="image_share", title="attention on the image", kind="share", value=answer.number("image_share")
    )
    return Reasons(words=(joint,), quantities=(quantity,), notes=tuple(notes))


def read_ctmwa(answer: Answer) -> Reasons:
    """Weights of both modalities, how far each translation misses, and the unimodal classifiers."""
    has_text, has_image = answer.flag("has_text"), answer.flag("has_image")
    notes = []
    if not bool(answer.head.is_weighted):
        notes.append("Weights: all are 1, since this run had no meta set to learn them on.")
    elif answer.flag("weight_is_of_label"):
        notes.append(f"Weights: w(y) of the pair's label, y = {answer.label}, as in the paper.")
    else:
        notes.append("Weights: no label, so Σ p(y) w(y) over the head's own prediction. This expectation is ours.")
    quantities = [
        Quantity(
            name=f"{side}_weight", title=f"weight of the {side}", kind="weight", value=answer.number(f"{side}_weight")
        )
        for side in ("text", "image")
    ]
    if has_text and has_image:
        quantities += [
            Quantity(name=name, title=title, kind="distance", value=answer.number(name))
            for name, title in DISTANCES.items()
            if answer.has(name)
        ]
    else:
        absent, other = ("text", "image") if has_image else ("image", "text")
        if has_text or has_image:
            how = "translated from" if answer.head.config.missing == "translate" else "left out for"
            notes.append(f"No {absent}: it is {how} the {other}, so no translation can be measured.")
    voices = tuple(
        voice(f"{side}_logits", f"{side} alone", softmax(answer.array(f"{side}_logits")[None])[0])
        for side in ("text", "image")
    )
    return Reasons(voices=voices, quantities=tuple(quantities), notes=tuple(notes))


VIEWS: dict[str, Callable[[Answer], Reasons]] = {
    "itin": read_itin,
    "rnn_ca_embedding": read_rnn_ca,
    "rnn_ca": read_rnn_ca,
    "rnn_embedding": read_rnn_ca,
    "ctmwa": read_ctmwa,
}
