"""Draws the curves of a benchmark as SVG.

Not a benchmark itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

COLORS = ("#06c", "#c50", "#383", "#939")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 320, 60, 50, 50


def line_chart(x_name: str, xs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """A chart with one line for each of the `curves` (name -> one value for each `x`). The x axis is logarithmic."""
    highest = max(map(max, curves.values()))
    step = _step(highest)
    ticks = [step * number for number in range(math.ceil(highest / step) + 1)]
    most = ticks[-1]
    low, high = math.log10(xs[0]), math.log10(xs[-1])

    def x(value: float) -> float:
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return LEFT + 40 + (WIDTH - LEFT - 90) * share

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - 10}" fill="none" stroke="#666"/>',
    ]
    for tick in ticks:
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.0f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - 10}" stroke="#ddd"/>')
    for value in xs:
        parts.append(f'<text x="{x(value):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{x_name}</text>')
    for number, (name, values) in enumerate(curves.items()):
        color = COLORS[number]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(xs, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        for at, one in zip(xs, values, strict=True):
            parts.append(f'<circle cx="{x(at):.1f}" cy="{y(one):.1f}" r="3" fill="{color}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{14 + 16 * number}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _step(most: float) -> float:
    """The round number of which about five make up `most`."""
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return power * min((1, 2, 5, 10), key=lambda factor: abs(power * factor - rough))
