"""Draws latency against callers as an SVG, with no library: both directions of each system, p99 on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from load.bench.steps import ADDED_P99_MAX_MS, Measured

WIDTH, HEIGHT, MARGIN = 760, 420, 60
COLOURS = {
    "parley": "#b3261e",
    "relay": "#1f5fa8",
    "echo": "#707070",
    "gateway": "#7a4fa3",
    "session": "#2e7d32",
}
LEAST_MS, MOST_MS = 0.1, 1_000.0


def svg(measured: Sequence[Measured]) -> str:
    """Return the picture: solid is p99, dotted is p50, of the worse direction."""
    most = max([one.rung.callers for one in measured] or [1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        '<text x="60" y="24" font-size="15">Added latency against callers: p99 solid, p50 dotted</text>',
        *_grid(most),
    ]
    for row, system in enumerate(dict.fromkeys(one.system for one in measured)):
        colour = COLOURS[system]
        mine = [one for one in measured if one.system == system]
        for dashes, pick in (("", _p99_ms), ("2 4", _p50_ms)):
            worst: dict[int, float] = {}
            for one in mine:
                worst[one.rung.callers] = max(worst.get(one.rung.callers, 0.0), pick(one))
            points = [(_x(n, most), _y(ms)) for n, ms in sorted(worst.items())]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-dasharray="{dashes}"/>'
            )
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{MARGIN + 10}" y="{MARGIN + 16 * row}" fill="{colour}">{system}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(most: int) -> list[str]:
    parts = []
    for ms in (0.1, 1.0, 10.0, ADDED_P99_MAX_MS, 100.0, 1_000.0):
        y = _y(ms)
        stroke = "#c77" if ms == ADDED_P99_MAX_MS else "#ddd"
        parts.append(f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{WIDTH - 20}" y2="{y:.1f}" stroke="{stroke}"/>')
        parts.append(f'<text x="8" y="{y + 4:.1f}">{ms:g} ms</text>')
    for n in range(0, most + 1, max(1, math.ceil(most / 8 / 5) * 5)):
        parts.append(f'<text x="{_x(n, most):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{n}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">callers</text>')
    return parts


def _x(callers: int, most: int) -> float:
    return MARGIN + (WIDTH - MARGIN - 20) * callers / most


def _y(ms: float) -> float:
    share = math.log(min(max(ms, LEAST_MS), MOST_MS) / LEAST_MS) / math.log(MOST_MS / LEAST_MS)
    return HEIGHT - MARGIN + 10 - (HEIGHT - 2 * MARGIN) * share


def _p99_ms(one: Measured) -> float:
    return one.figures.worst_p99_ms()


def _p50_ms(one: Measured) -> float:
    return max(s.p50 or 0.0 for s in (one.figures.up_ms, one.figures.down_ms, one.figures.round_ms))
