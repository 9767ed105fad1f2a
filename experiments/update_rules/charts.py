"""Line charts as inline SVG."""

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

COLOURS = (
    "#0f766e", "#c2410c", "#4f46a5", "#b91c5c", "#1d4ed8", "#a16207", "#15803d", "#6b7280",
    "#7c2d12", "#0891b2", "#9333ea", "#111827", "#65a30d", "#e11d48",
)  # fmt: skip
WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 44


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; `spread` draws a band of +- so much."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    dashed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    label: str
    log: bool = False
    low: float | None = None  # None: from the values
    high: float | None = None


def chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """The curves in one frame with ticks; values that are not finite are left out."""
    points = [
        (a, b + sign * s)
        for line in lines
        for a, b, s in zip(line.x, line.y, line.spread or [0.0] * len(line.y), strict=True)
        for sign in (-1, 1)
        if math.isfinite(a) and math.isfinite(b) and math.isfinite(s)
    ]
    across = _scale(x, [a for a, _ in points], LEFT, WIDTH - RIGHT)
    up = _scale(y, [b for _, b in points], HEIGHT - BOTTOM, TOP)
    body = [_grid(x, across, y, up)]
    body += [_band(line, across, up) for line in lines if line.spread is not None]
    body += [_curve(line, across, up) for line in lines]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(y.label)} '
        f'against {html.escape(x.label)}">{"".join(body)}</svg>'
    )


@dataclasses.dataclass(frozen=True)
class _Scale:
    place: Callable[[float], float]
    ticks: list[float]


def _scale(axis: Axis, values: list[float], start: float, stop: float) -> _Scale:
    low = min(values, default=0.0) if axis.low is None else axis.low
    high = max(values, default=1.0) if axis.high is None else axis.high
    if axis.log:
        low, high = max(low, 1e-12), max(high, 1e-12)
    if high <= low:
        high = 2 * low if axis.log else low + 1
    ticks = _log_ticks(low, high) if axis.log else _ticks(low, high)
    if not axis.log:
        low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(value: float) -> float:
        value = min(max(value, low), high)
        share = (
            math.log(value / low) / math.log(high / low)
            if axis.log
            else ((value - low) / (high - low))
        )
        return start + share * (stop - start)

    return _Scale(place, ticks)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    raw = (high - low) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    base = 10 if high / low > 300 else 2
    first = math.ceil(math.log(low, base) - 1e-9)
    last = math.floor(math.log(high, base) + 1e-9)
    return [float(base) ** n for n in range(first, last + 1)]


def _grid(x: Axis, across: _Scale, y: Axis, up: _Scale) -> str:
    parts = []
    for value in up.ticks:
        at = up.place(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.ticks:
        at = across.place(value)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{value:g}</text>'
        )
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{html.escape(x.label)}</text>'
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y.label)}</text>'
    )
    return "".join(parts)


def _path(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _curve(line: Line, across: _Scale, up: _Scale) -> str:
    points = [
        (across.place(a), up.place(b))
        for a, b in zip(line.x, line.y, strict=True)
        if math.isfinite(b)
    ]
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    return (
        f'<polyline points="{_path(points)}" fill="none" stroke="{line.colour}" '
        f'stroke-width="1.8"{dash}><title>{html.escape(line.name)}</title></polyline>'
    )


def _band(line: Line, across: _Scale, up: _Scale) -> str:
    rows = [
        (across.place(a), up.place(b + s), up.place(b - s))
        for a, b, s in zip(line.x, line.y, line.spread or [], strict=True)
        if math.isfinite(b) and math.isfinite(s)
    ]
    outline = [(a, b) for a, b, _ in rows] + [(a, b) for a, _, b in reversed(rows)]
    return f'<polygon points="{_path(outline)}" fill="{line.colour}" opacity="0.15"/>'
