"""A pair's image, small enough to show; or none, with the reason."""

from PIL import Image

from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.fuse.explain.explanation import PairExplanation

SIDE_PX = 900


def load_picture(explanation: PairExplanation, *, side_px: int = SIDE_PX) -> Image.Image | None:
    """The image, upright, its longer side at most `side_px`; None where there is none (any more)."""
    if explanation.image_file is None or explanation.image_problem:
        return None
    try:
        image = read_image(explanation.image_file)
    except UnreadableImage:
        return None
    image.thumbnail((side_px, side_px))
    return image
