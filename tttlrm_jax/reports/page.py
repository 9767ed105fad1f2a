"""HTML pages from templates: one file each, everything embedded, nothing fetched.

Templates extend `templates/base.html`; what they print is escaped, unless it is `Markup`. A name
that a template needs and nobody gave is an error.
"""

import base64
import dataclasses
import functools
import io
import json
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from tttlrm_jax.core.pictures import png_bytes, to_uint8

CRISP_BELOW = 256  # pixels; smaller pictures are embedded as PNG and shown with sharp pixels
JPEG_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Picture:
    """An embedded picture, as the templates show it."""

    source: str  # data URI
    width: int
    height: int
    crisp: bool  # shown with sharp pixels


def render(template: str, **values: Any) -> str:
    """The page of a template in `reports/templates`, or of a file beside the caller by its path."""
    folder, _, name = template.rpartition("/")
    return _environment(folder).get_template(name).render(values)


@functools.cache
def _environment(folder: str) -> Environment:
    own = PackageLoader("tttlrm_jax.reports")
    loader = ChoiceLoader([own, FileSystemLoader(folder)]) if folder else own
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"grouped": grouped, "duration": duration}
    environment.globals |= {
        "count": count,
        # style sheets and scripts stand in their elements as they are
        "source": lambda name: Markup(loader.get_source(environment, name)[0]),
    }
    return environment


def grouped(number: int) -> str:
    """Thousands apart by a narrow space: 16 384."""
    return f"{number:,}".replace(",", "\u202f")


def count(number: int, noun: str) -> str:
    """`1 view`, `2 views`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Milliseconds below a second."""
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def script_json(value: dict[str, Any]) -> Markup:
    """JSON that cannot end its script element."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))


def uri(content: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(image: np.ndarray, *, crisp_below: int = CRISP_BELOW) -> Picture:
    """A picture [height, width, 3] in [0, 1] or uint8: small ones as PNG, large ones as JPEG."""
    pixels = to_uint8(image)
    height, width = pixels.shape[:2]
    if max(height, width) < crisp_below:
        return Picture(uri(png_bytes(pixels), "image/png"), width, height, crisp=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Picture(uri(buffer.getvalue(), "image/jpeg"), width, height, crisp=False)
