"""Pictures as bytes: a photo keeps its colours, a figure its size and its bytes."""

from base64 import b64decode
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sentifuse.fuse.embed import photo, to_png


def test_a_photo_keeps_its_colours() -> None:
    content = b64decode(photo(Image.new("RGB", (30, 20), (200, 30, 60))).partition(",")[2])
    with Image.open(BytesIO(content)) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - (200, 30, 60)).max() <= 4


def test_a_figure_is_a_png_of_its_size_with_the_same_bytes_each_time() -> None:
    first, second = (to_png(Figure(figsize=(2.0, 1.0), dpi=100)) for _ in range(2))
    assert first == second
    with Image.open(BytesIO(first)) as image:
        assert (image.format, image.size) == ("PNG", (200, 100))
