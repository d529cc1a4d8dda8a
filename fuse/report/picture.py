"""Pictures inside a page: data URIs, with words that stand for them. Knows figures and photos, not results."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from sentifuse.fuse.embed import data_uri, photo

# Letters as paths: a page looks the same where a font is missing. A fixed salt: the same figure, the same bytes.
SVG_SETTINGS = {"svg.fonttype": "path", "svg.hashsalt": "sentifuse"}
FIGURE_DPI = 130  # of figures with photos in them


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of a page."""

    source: str  # data URI
    alt: str  # what is to be seen, in words and numbers
    caption: str
    width_px: int  # at most so wide on a screen


def from_figure(figure: Figure, *, alt: str, caption: str) -> Picture:
    """A diagram as SVG."""
    content = BytesIO()
    with rc_context(SVG_SETTINGS):
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return Picture(
        source=data_uri("image/svg+xml", content.getvalue()),
        alt=alt,
        caption=caption,
        width_px=round(96 * figure.get_figwidth()),
    )


def from_photo_figure(figure: Figure, *, alt: str, caption: str) -> Picture:
    """A figure with a photo in it as JPEG: a fifth of a PNG."""
    figure.set_dpi(FIGURE_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba().tobytes()).convert("RGB")
    return Picture(source=photo(image), alt=alt, caption=caption, width_px=round(96 * figure.get_figwidth()))


def from_drawn(draw: Callable[[Path], Path], *, alt: str, caption: str) -> Picture:
    """What a function draws into a PNG file."""
    with TemporaryDirectory() as folder:
        content = draw(Path(folder) / "picture.png").read_bytes()
    with Image.open(BytesIO(content)) as image:
        density = float(image.info.get("dpi", (150, 150))[0])
        width_px = round(96 * image.width / density)
    return Picture(source=data_uri("image/png", content), alt=alt, caption=caption, width_px=width_px)
