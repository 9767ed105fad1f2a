"""What the plots share: colours, matplotlib figures without pyplot, pixels and SVG of a figure.

Matplotlib is imported when the first plot is drawn. Lengths are units of which a figure has 100 an
inch, measured from its upper left corner.
"""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, CARD, INK, FAINT, GRID = "#f7f6f2", "#ffffff", "#1b1c20", "#6b6c74", "#e6e4dd"
COLOURS = (
    "#0f766e", "#c2410c", "#4f46a5", "#8a8880", "#b91c5c", "#1d4ed8", "#a16207", "#15803d",
    "#7c2d12", "#0891b2", "#9333ea", "#111827", "#65a30d", "#e11d48",
)  # fmt: skip
UNITS = 100  # per inch
POINT = 0.72  # points per unit: sizes of text and widths of lines are given in units too
SHARP = 2  # pixels per unit of a picture
FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same


def new_figure(width: float, height: float, paper: str = PAPER) -> "Figure":
    """An empty figure of so many units."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / UNITS, height / UNITS), dpi=UNITS * SHARP, facecolor=paper)


def add_text(
    figure: "Figure", place: tuple[float, float], text: str, *, size: float, colour: str = INK,
    align: str = "left", baseline: str = "center",
) -> None:  # fmt: skip
    """Text as it is (no formulas) at a place in units."""
    width, height = figure.get_size_inches() * UNITS
    figure.text(
        place[0] / width, 1 - place[1] / height, text, fontsize=size * POINT, color=colour,
        ha=align, va=baseline, parse_math=False, family=FONT,
    )  # fmt: skip


def add_axes(figure: "Figure", box: tuple[float, float, float, float], card: str = CARD) -> "Axes":
    """Axes with a grid in the box left, top, right, bottom, in units."""
    width, height = figure.get_size_inches() * UNITS
    left, top, right, bottom = box
    axes = figure.add_axes(
        (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height),
        facecolor=card,
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(True, color=GRID, linewidth=POINT)
    axes.set_axisbelow(True)
    axes.tick_params(
        left=False, bottom=False, which="both", labelsize=13 * POINT, labelcolor=FAINT,
        labelfontfamily=FONT, pad=7,
    )  # fmt: skip
    return axes


def name_axis(axes: "Axes", axis: str, text: str, colour: str = INK) -> None:
    """The label of the axis "x" or "y", as it is."""
    label = getattr(axes, f"set_{axis}label")(
        text, fontsize=14 * POINT, color=colour, family=FONT
    )  # fmt: skip
    label.set_parse_math(False)


def pixels(figure: "Figure") -> np.ndarray:
    """The drawn figure, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def svg(figure: "Figure", label: str, marks: Mapping[str, tuple[str, str]]) -> str:
    """The figure as an SVG element for a page, the same for the same figure.

    `marks` maps the gid of an artist to the class its element gets and to a text that shows when
    the pointer rests on it. The element refers to nothing outside itself.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tttlrm-jax", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _without_namespaces(root)
    for element in root.iter("g"):
        if element.get("id") in marks:
            kind, title = marks[element.attrib["id"]]
            element.set("class", kind)
            note = ElementTree.Element("title")
            note.text = title
            element.insert(0, note)
        element.attrib.pop("id", None)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _without_namespaces(root: ElementTree.Element) -> None:
    """Leaves what a page needs: no names of standards, metadata or clipping, short numbers."""
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip(), None
        if "d" in element.attrib:
            places = re.sub(r"(\.\d\d)\d+", r"\1", element.attrib["d"])
            element.set("d", " ".join(places.split()))
        element.tag = element.tag.split("}")[-1]
        element.attrib.pop("clip-path", None)
        for child in list(element):
            if child.tag.split("}")[-1] in ("metadata", "defs"):
                element.remove(child)
