"""Lines on logarithmic axes as SVG, without a library. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 440, 80, 40, 150, 50
COLOURS = ["#dc2626", "#d97706", "#65a30d", "#0d9488", "#2563eb", "#7c3aed", "#6b7280"]


def draw(title: str, lines: Mapping[str, Mapping[int, float]]) -> str:
    """Returns a plot of seconds over rows; both axes are logarithmic."""
    values = [value for line in lines.values() for value in line.values()]
    rows = sorted({number for line in lines.values() for number in line})
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    last = math.log10(rows[-1])

    def x(number: int) -> float:
        return LEFT + math.log10(number) / last * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - math.log10(value)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="24" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{_s(power)}</text>')
    below = f'y="{HEIGHT - BOTTOM + 20}" text-anchor="middle"'
    parts += [f'<text x="{x(number):.1f}" {below}>10^{round(math.log10(number))}</text>' for number in rows]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">rows</text>')
    ends = sorted(lines, key=lambda name: -lines[name][rows[-1]])
    for place, (name, line) in enumerate(lines.items()):
        points = " ".join(f"{x(number):.1f},{y(value):.1f}" for number, value in sorted(line.items()))
        label = TOP + 14 + 22 * ends.index(name)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[place]}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{label}" fill="{COLOURS[place]}">{name}</text>')
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13">'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'


def _s(power: int) -> str:
    """Returns a power of ten in seconds as text."""
    unit, base = next((unit, base) for unit, base in (("s", 0), ("ms", -3), ("µs", -6), ("ns", -9)) if power >= base)
    return f"{10 ** (power - base)} {unit}"
