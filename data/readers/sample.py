"""The embedded dataset: pairs the project makes itself, in MVSA's own layout, whose answer is known by construction.

An easy, planted set for demonstration and tests: it says whether a head joins two modalities, not how good it is on
real pairs.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from sentifuse import DataError
from sentifuse.data import files
from sentifuse.data.dice import Dice
from sentifuse.data.labels import merge_labels
from sentifuse.data.readers.mvsa import DATA_FOLDER, LABEL_FILE, MvsaSingle
from sentifuse.data.sample_scenes import SIDE_PX, draw_scene
from sentifuse.data.sample_tweets import compose_tweet
from sentifuse.data.source import SENTIMENT, Annotation, ReadRequest, Source

SEED = 20
VERSION = 1  # one more whenever other files come out
JPEG_QUALITY = 90
MARKER = "complete.json"
NEGATIVE, NEUTRAL, POSITIVE = SENTIMENT

# (text, image) -> pairs. The seven combinations that the multisentinet rule keeps are equally likely: either modality
# alone is right for at most 5 of 7 kept pairs, both together for all. The rule removes the last two, which contradict.
COMBINATIONS: dict[tuple[str, str], int] = {
    (POSITIVE, POSITIVE): 466,
    (POSITIVE, NEUTRAL): 466,
    (NEUTRAL, POSITIVE): 466,
    (NEUTRAL, NEUTRAL): 466,
    (NEUTRAL, NEGATIVE): 466,
    (NEGATIVE, NEUTRAL): 466,
    (NEGATIVE, NEGATIVE): 466,
    (POSITIVE, NEGATIVE): 86,
    (NEGATIVE, POSITIVE): 86,
}


class Sample:
    """The reader of the embedded dataset; the first call makes its files in `<dataset>/source`."""

    def read(self, request: ReadRequest) -> Source:
        folder = request.dataset_dir / "source" if request.root is None else request.root
        generate(folder)
        return replace(MvsaSingle().read(replace(request, root=folder)), published={})


def bayes_accuracy(combinations: Mapping[tuple[str, str], int] | None = None) -> dict[str, float]:
    """The best accuracy any model can reach on the kept pairs from "text", "image" or "both", by the joint table alone.

    >>> {side: round(value, 3) for side, value in bayes_accuracy().items()}
    {'text': 0.714, 'image': 0.714, 'both': 1.0}
    """
    counts: dict[str, dict[object, Counter[str]]] = {side: defaultdict(Counter) for side in ("text", "image", "both")}
    total = 0
    for (text, image), count in (COMBINATIONS if combinations is None else combinations).items():
        said = (Annotation("", "text", 0, text), Annotation("", "image", 0, image))
        label = merge_labels(said, "multisentinet", SENTIMENT).label[0]
        if label is not None:
            total += count
            for side, seen in (("text", text), ("image", image), ("both", (text, image))):
                counts[side][seen][label] += count
    best = {side: sum(max(labels.values()) for labels in seen.values()) for side, seen in counts.items()}
    return {side: float(Fraction(value, total)) for side, value in best.items()}


def generate(folder: Path, combinations: Mapping[tuple[str, str], int] | None = None) -> None:
    """Write label file, texts and images, unless a marker says that just these are there already.

    The marker is written last, so an interrupted run is made good by the next; files that were changed by hand
    afterwards are left alone.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    combinations = COMBINATIONS if combinations is None else combinations
    recipe = [VERSION, SEED, SIDE_PX, JPEG_QUALITY, sorted((*pair, count) for pair, count in combinations.items())]
    marker = (json.dumps({"digest": files.digest(json.dumps(recipe).encode())}) + "\n").encode()
    if files.is_file(folder / MARKER) and (folder / MARKER).read_bytes() == marker:
        return
    dice = Dice(f"{SEED}:order")
    rows = dice.shuffled([pair for pair, count in combinations.items() for _ in range(count)])
    try:
        (folder / DATA_FOLDER).mkdir(parents=True, exist_ok=True)
        for number, (text, image) in enumerate(rows, 1):
            _write_pair(folder / DATA_FOLDER, number, text, image)
    except OSError as error:
        raise DataError(
            f"{folder}: the sample cannot be written: {error.strerror or error}. It needs 30 MB; "
            "free some space or mend the permissions, then run again: sentifuse data prepare sample"
        ) from error
    lines = ["ID\ttext,image", *(f"{number}\t{text},{image}" for number, (text, image) in enumerate(rows, 1))]
    files.write_bytes(folder / LABEL_FILE, "".join(f"{line}\r\n" for line in lines).encode("ascii"))
    files.write_bytes(folder / MARKER, marker)


def _write_pair(folder: Path, number: int, text: str, image: str) -> None:
    # Scene and tweet have chances of their own: only the props connect them.
    scene = draw_scene(image, Dice(f"{SEED}:{number}:image"))
    tweet = compose_tweet(text, scene.props, Dice(f"{SEED}:{number}:text"))
    scene.image.save(folder / f"{number}.jpg", "JPEG", quality=JPEG_QUALITY)
    (folder / f"{number}.txt").write_bytes(tweet.encode("gb18030") + b" \n")
