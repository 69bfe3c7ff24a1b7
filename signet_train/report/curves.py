"""Curves as SVG to stand in a page: no script, no font, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 24, 34
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4fa3", "#b8860b", "#4d4d4d")
_MOST_POINTS = 400  # of a curve: more than the picture has pixels for

Points = Sequence[tuple[float, float]]


def curves(title: str, lines: Mapping[str, Points]) -> str:
    """Draw lines (step, value) by their names in one picture with axes.

    Values that are no finite number are left out; without any others the picture is empty.
    """
    kept = {name: _thinned([p for p in points if math.isfinite(p[1])]) for name, points in lines.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y for points in kept.values() for _, y in points]
    x_ticks, y_ticks = _ticks(min(*xs, 0), max(*xs, 1)), _ticks(min(ys), max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<text x="{_LEFT}" y="15" class="title">{escape(title)}</text>']
    for tick in y_ticks:
        (left, height), (right, _) = at(x_ticks[0], tick), at(x_ticks[-1], tick)
        parts.append(f'<line x1="{left:.1f}" y1="{height:.1f}" x2="{right:.1f}" y2="{height:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in x_ticks:
        place, floor = at(tick, y_ticks[0])
        parts.append(f'<text x="{place:.1f}" y="{floor + 16:.1f}" text-anchor="middle">{tick:.6g}</text>')
    for i, (name, points) in enumerate(kept.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        x, y = at(*points[-1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 12 + 14 * i}" text-anchor="end" style="fill:{colour}">'
            f"{escape(name)} {points[-1][1]:.4g}</text>"
        )
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">step</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _thinned(points: Points) -> Points:
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:stride], points[-1]] if stride > 1 else points


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers from below ``low`` to above ``high``."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, last + 1)]
