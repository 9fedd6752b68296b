"""Charts that a browser shows without any network: plain SVG, in a page whose colours it takes, or as a file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from rig.arrays import Float64

Range = tuple[float, float]  # lowest and highest value

WIDTH, HEIGHT = 720, 260  # of the view box; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 44
X_SPAN, Y_SPAN = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
TICKS_X, TICKS_Y = 7, 5
MOST_POINTS = 2000  # of a series: a screen shows no more
HEAD = 40  # of a file: room for the title and the legend
LETTER = 7.2  # usual width in the legend
STYLE = (  # of a file, which lies on no page: on white, so that it is read in the dark too
    "text{font:13px sans-serif;fill:#333}.title{font-weight:bold}.grid{stroke:#ddd}.axis{stroke:#333;fill:none}"
)
COLOURS = ("#0b6bcb", "#c4501b", "#1a7f4b", "#8a3ffc", "#a56b00", "#b3125c")


@dataclass(frozen=True, slots=True)
class Series:
    """Values over a common axis; `points` draws dots instead of a line."""

    name: str
    x: Float64
    y: Float64
    points: bool = False


def chart(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """An SVG figure of all series, of long ones the lowest and highest of each piece; empty without values."""
    kept = _kept(series)
    if not kept:
        return ""
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
    legend = " ".join(
        f'<span style="color:{_colour(index)}">&#9632;</span> {escape(item.name)}'
        for index, item in enumerate(kept)
        if item.name
    )
    caption = f"<figcaption><b>{escape(title)}</b> {legend}</figcaption>"
    return f'<figure>{caption}<svg class="chart" {box}>{_drawing(kept, x_label, y_label)}</svg></figure>'


def chart_file(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> str:
    """The same as the text of an SVG file of its own, with title and legend in it. Raises ValueError without values."""
    kept = _kept(series)
    if not kept:
        raise ValueError(f"the chart {title!r} has no values")
    legend, at = [], float(LEFT)
    for index, item in ((index, item) for index, item in enumerate(kept) if item.name):
        legend.append(f'<tspan x="{at:.0f}" fill="{_colour(index)}">■</tspan> {escape(item.name)}')
        at += (len(item.name) + 4) * LETTER
    box = f'viewBox="0 {-HEAD} {WIDTH} {HEIGHT + HEAD}" role="img" aria-label="{escape(title)}"'
    parts = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{STYLE}</style>',
        f'<rect y="{-HEAD}" width="{WIDTH}" height="{HEIGHT + HEAD}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="{16 - HEAD}">{escape(title)}</text>',
        f'<text y="{34 - HEAD}">{"".join(legend)}</text>',
        _drawing(kept, x_label, y_label),
        "</svg>\n",
    )
    return "\n".join(parts)


def _kept(series: Sequence[Series]) -> list[Series]:
    """What can be drawn: finite values, of a long series the lowest and the highest of each piece."""
    kept = []
    for item in series:
        good = np.flatnonzero(np.isfinite(item.x) & np.isfinite(item.y))
        if len(good) > MOST_POINTS:
            pieces = np.array_split(good, MOST_POINTS // 2)
            good = np.unique([piece[pick(item.y[piece])] for piece in pieces for pick in (np.argmin, np.argmax)])
        if len(good):
            kept.append(replace(item, x=item.x[good], y=item.y[good]))
    return kept


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _drawing(kept: Sequence[Series], x_label: str, y_label: str) -> str:
    x_range = _range([item.x for item in kept], margin=0.0)
    y_range = _range([item.y for item in kept], margin=0.06)
    parts = [*_axes(x_range, y_range, x_label, y_label)]
    for index, item in enumerate(kept):
        places = zip(np.interp(item.x, x_range, X_SPAN), np.interp(item.y, y_range, Y_SPAN), strict=True)
        parts.append(_curve(list(places), item.points, _colour(index)))
    return "".join(parts)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers (1, 2, 5 times a power of ten apart) within a range."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[Float64], margin: float) -> Range:
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    beyond = margin * (high - low) if high > low else max(abs(low), 1.0) * 0.1
    return low - beyond, high + beyond


def _axes(x_range: Range, y_range: Range, x_label: str, y_label: str) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in ticks(*y_range, TICKS_Y):
        at = np.interp(value, y_range, Y_SPAN)
        yield f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in ticks(*x_range, TICKS_X):
        at = np.interp(value, x_range, X_SPAN)
        yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    turned = f"translate(14 {(TOP + bottom) / 2}) rotate(-90)"
    yield f'<text transform="{turned}" text-anchor="middle">{escape(y_label)}</text>'


def _curve(places: Sequence[tuple[float, float]], points: bool, colour: str) -> str:
    if points:
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
        return f'<g fill="{colour}">{dots}</g>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
