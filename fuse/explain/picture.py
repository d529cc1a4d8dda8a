"""A pair's image, small enough to show; or none, with the reason."""

from base64 import b64encode
from io import BytesIO

from PIL import Image

from sentifuse.data.images import UnreadableImage, read_image
from sentifuse.fuse.explain.explanation import PairExplanation

SIDE_PX = 900
QUALITY = 85


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


def embed(image: Image.Image) -> str:
    """The image as a data URI, so that a page needs no other file."""
    content = BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + b64encode(content.getvalue()).decode("ascii")
