"""Single pairs on a page: thumbnail, text as read, label and answer. Pictures come from the dataset's own root."""

from dataclasses import dataclass

from sentifuse.data.files import digest
from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.data.manifest import OK, Manifest, Pair
from sentifuse.fuse.embed import photo
from sentifuse.fuse.report.recorded import Recorded

SIDE_PX = 300
MOST_CHARACTERS = 1500  # of a text; the manifest has the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One pair and what was said about it."""

    id: str
    label: str
    predicted: str
    probabilities: tuple[tuple[str, float], ...]  # class, probability
    thumbnail: str | None  # data URI
    problem: str  # why there is no thumbnail, or what is odd about it; "" for neither
    text: str | None  # None where the pair has none
    cut: int  # characters that are not shown
    modalities: str  # what text and image alone were labelled, "" where nobody did

    @property
    def confidence(self) -> float:
        """The probability of the answer."""
        return max(p for _, p in self.probabilities)


def show_pairs(recorded: Recorded, ids: tuple[str, ...]) -> list[Example]:
    """These pairs, in their order; each has a prediction."""
    predictions, pairs = recorded.predictions, recorded.manifest.by_id()
    row_of = {id_: row for row, id_ in enumerate(predictions.ids)}
    text_labels, image_labels = recorded.labels.by_id("text_label"), recorded.labels.by_id("image_label")
    found = []
    for id_ in ids:
        row, pair = row_of[id_], pairs[id_]
        thumbnail, problem = _thumbnail(recorded.manifest, pair)
        text = pair.text if pair.text_status == OK else None
        said = {"text": text_labels.get(id_), "image": image_labels.get(id_)}
        found.append(
            Example(
                id=id_,
                label=predictions.classes[predictions.labels[row]],
                predicted=predictions.classes[predictions.predicted[row]],
                probabilities=tuple(zip(predictions.classes, predictions.probabilities[row].tolist(), strict=True)),
                thumbnail=thumbnail,
                problem=problem,
                text=None if text is None else text[:MOST_CHARACTERS],
                cut=max(0, len(text or "") - MOST_CHARACTERS),
                modalities=", ".join(f"{side} alone {label}" for side, label in said.items() if label),
            )
        )
    return found


def _thumbnail(manifest: Manifest, pair: Pair) -> tuple[str | None, str]:
    """The image, small; or none, and why."""
    if not pair.image_path:
        return None, "the dataset names no image"
    if pair.image_status != OK:
        return None, f"image {pair.image_status}"
    file = manifest.image_file(pair)
    try:
        content = file.read_bytes()
        image = read_image(content)
    except FileNotFoundError:
        return None, "the image file is gone"
    except OSError as error:
        return None, f"the image file cannot be read: {error.strerror}"
    except UnreadableImage as error:
        return None, f"the image file is {error.reason}"
    is_same = digest(content) == pair.image_digest
    image.thumbnail((SIDE_PX, SIDE_PX))
    return photo(image), "" if is_same else "the image file has changed since its features were made"
