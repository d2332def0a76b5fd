"""Small panels side by side, drawn as SVG: one line each, over the same sizes.

Every panel begins at zero, so that a line that stays level is a cost that stays level. There is nothing to
configure, and nothing that runs in the picture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

COLUMNS = 3
WIDTH, HEIGHT = 290, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 24, 34, 58, 34

_STYLE = """\
  text { font: 12px system-ui, sans-serif; fill: #1f2937 }
  .name { font-weight: 600; font-size: 13px }
  .faint { fill: #6b7280; font-size: 11px }
  .axis { stroke: #9ca3af; stroke-width: 1 }
  .line { fill: none; stroke: #2563eb; stroke-width: 2 }
  .dot { fill: #2563eb }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb }
    .faint { fill: #9ca3af }
    .line { stroke: #60a5fa }
    .dot { fill: #60a5fa }
    .ground { fill: #111827 }
  }"""


class Panel(NamedTuple):
    """`unit` stands below the name. `values`: one for each size, none below zero."""

    name: str
    unit: str
    values: Sequence[float]


def draw(title: str, sizes: Sequence[int], panels: Sequence[Panel]) -> str:
    """The whole picture. `sizes`: rising, above zero; they stand apart by their ratios."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    drawn = [
        _panel(each, sizes, (number % COLUMNS) * WIDTH, (number // COLUMNS) * HEIGHT)
        for number, each in enumerate(panels)
    ]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        *drawn,
        "</svg>",
        "",
    ])  # fmt: skip


def place(sizes: Sequence[int], values: Sequence[float]) -> list[tuple[float, float]]:
    """Where each value stands in its panel: from the left, from the top."""
    wide, high = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    least, most = math.log(sizes[0]), math.log(sizes[-1])
    top = max(values) or 1.0
    return [
        (
            _LEFT + wide * ((math.log(size) - least) / (most - least) if most > least else 0.5),
            _TOP + high * (1 - value / top),
        )
        for size, value in zip(sizes, values, strict=True)
    ]


def short(value: float) -> str:
    """A number with about three digits."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _panel(panel: Panel, sizes: Sequence[int], x: int, y: int) -> str:
    places, ground = place(sizes, panel.values), HEIGHT - _BOTTOM
    parts = [
        f'<g transform="translate({x} {y})">',
        f'<text class="name" x="{_LEFT}" y="20">{escape(panel.name)}</text>',
        f'<text class="faint" x="{_LEFT}" y="35">{escape(panel.unit)}</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{ground}" x2="{WIDTH - _RIGHT}" y2="{ground}"/>',
        f'<polyline class="line" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top in places)}"/>',
    ]
    for (left, top), size, value in zip(places, sizes, panel.values, strict=True):
        parts += [
            f'<circle class="dot" cx="{left:.1f}" cy="{top:.1f}" r="3"/>',
            f'<text x="{left:.1f}" y="{top - 8:.1f}" text-anchor="middle">{short(value)}</text>',
            f'<text class="faint" x="{left:.1f}" y="{ground + 16}" text-anchor="middle">{size:,}</text>',
        ]
    return "\n".join([*parts, "</g>"])
