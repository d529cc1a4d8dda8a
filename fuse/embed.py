"""Pictures as bytes and as data URIs, so that a page needs no other file. Knows no results and no pairs."""

from base64 import b64encode
from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

QUALITY = 85


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def photo(image: Image.Image) -> str:
    """A photo as a data URI (JPEG), sharp at the edges of letters."""
    content = BytesIO()
    image.save(content, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return data_uri("image/jpeg", content.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """
    >>> data_uri("text/plain", b"a")
    'data:text/plain;base64,YQ=='
    """
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"
