"""Bar charts as SVG, without a library. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LABEL, ROW, HEAD = 760, 190, 22, 34
OURS, THEIRS = "#2563eb", "#9ca3af"
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


class Bar(NamedTuple):
    """A median, with the minimum and the maximum of its rounds."""

    label: str
    value: float
    low: float
    high: float
    ours: bool = False


class Panel(NamedTuple):
    """A chart with bars on one scale, the longest first."""

    title: str
    unit: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """Returns the height in pixels."""
        return HEAD + ROW * len(self.bars) + 12


def draw(panels: Sequence[Panel]) -> str:
    """Returns an SVG with the panels below each other."""
    top, parts = 8, []
    for panel in panels:
        parts.append(_panel(panel, top))
        top += panel.height
    background = f'<rect width="{WIDTH}" height="{top}" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" {FONT}>\n{background}\n{"".join(parts)}</svg>\n'


def _panel(panel: Panel, top: int) -> str:
    scale = (WIDTH - LABEL - 110) / max((bar.high for bar in panel.bars), default=1)
    title = f'<text x="8" y="{top + 20}" font-weight="bold">{escape(panel.title)} ({escape(panel.unit)})</text>\n'
    ordered = sorted(panel.bars, key=lambda bar: -bar.value)
    return title + "".join(_bar(bar, top + HEAD + ROW * number, scale) for number, bar in enumerate(ordered))


def _bar(bar: Bar, top: int, scale: float) -> str:
    """Returns the bar, with the range of its rounds as a line on it, and its number."""
    middle, end = top + ROW / 2 - 2, LABEL + bar.high * scale
    label = f'<text x="{LABEL - 8}" y="{middle + 5:.0f}" text-anchor="end">{escape(bar.label)}</text>'
    body = f'<rect x="{LABEL}" y="{top}" width="{bar.value * scale:.1f}" height="{ROW - 5}" fill="{OURS if bar.ours else THEIRS}"/>'
    low = LABEL + bar.low * scale
    spread = f'<path d="M{low:.1f} {middle:.1f}H{end:.1f}" stroke="black" stroke-width="1.5"/>'
    return f'{label}{body}{spread}<text x="{end + 6:.1f}" y="{middle + 5:.0f}">{number(bar.value)}</text>\n'


def number(value: float) -> str:
    """Returns a number with three significant digits, and all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
