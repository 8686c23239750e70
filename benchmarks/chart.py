"""Draws the curves of a benchmark as SVG.

Not a benchmark itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

COLORS = ("#06c", "#c50", "#383", "#939")
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 60, 50


def line_chart(x_name: str, xs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """A chart with one line for each of the `curves` (name -> one value for each `x`). The x axis is logarithmic."""
    most = max(max(values) for values in curves.values()) * 1.1
    low, high = math.log10(xs[0]), math.log10(xs[-1])

    def x(value: float) -> float:
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return LEFT + 40 + (WIDTH - LEFT - 90) * share

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 30) * value / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{LEFT} 20V{HEIGHT - BOTTOM}H{WIDTH - 10}" fill="none" stroke="#666"/>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{LEFT - 6}" y="{y(most * share) + 4:.0f}" text-anchor="end">{most * share:.0f}</text>')
    for value in xs:
        parts.append(f'<text x="{x(value):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{x_name}</text>')
    for number, (name, values) in enumerate(curves.items()):
        color = COLORS[number]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(xs, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{32 + 16 * number}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
