"""Small line charts as SVG, without a library."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 40
COLOURS = ("#1f6feb", "#d1495b", "#2a9d5c")
GRID, INK = "#dddddd", "#333333"

Dots = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One chart: series by name, both axes logarithmic unless `linear`; `limit` is a dashed line."""

    title: str
    series: Mapping[str, Dots]
    linear: bool = False
    limit: float | None = None


def page(charts: Sequence[Chart], columns: int = 2) -> str:
    """An SVG with the charts side by side; x is the number of calls."""
    rows = math.ceil(len(charts) / columns)
    width, height = columns * WIDTH, rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        x, y = number % columns * WIDTH, number // columns * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_chart(chart), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _chart(chart: Chart) -> list[str]:
    dots = [dot for series in chart.series.values() for dot in series]
    limits = [] if chart.limit is None else [chart.limit]
    across = _Axis([x for x, _ in dots] or [1], LEFT, WIDTH - RIGHT)
    up = _Axis([*(y for _, y in dots), *limits] or [1], HEIGHT - BOTTOM, TOP, linear=chart.linear)
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="600">{chart.title}</text>']
    for value in sorted({x for x, _ in dots}):
        at = across.place(value)
        parts += [
            _line((at, TOP), (at, HEIGHT - BOTTOM), GRID),
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{value:g}</text>',
        ]
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">calls at once</text>')
    for value in up.marks():
        at = up.place(value)
        parts += [
            _line((LEFT, at), (WIDTH - RIGHT, at), GRID),
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    if chart.limit is not None:
        at = up.place(chart.limit)
        parts.append(_line((LEFT, at), (WIDTH - RIGHT, at), INK, 'stroke-dasharray="4 4"'))
    for number, (name, series) in enumerate(chart.series.items()):
        parts += _series(name, [(across.place(x), up.place(y)) for x, y in series], number)
    return parts


def _series(name: str, placed: Dots, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    key = HEIGHT - 8
    at = LEFT + number * 95
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed),
        f'<circle cx="{at}" cy="{key - 4}" r="4" fill="{colour}"/>',
        f'<text x="{at + 8}" y="{key}">{name}</text>',
    ]


def _line(start: tuple[float, float], end: tuple[float, float], colour: str, extra: str = "") -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {extra}/>'


class _Axis:
    """Maps values to pixels between two ends."""

    def __init__(self, values: Sequence[float], first: float, last: float, *, linear: bool = False) -> None:
        self._linear = linear
        self._first, self._last = first, last
        if linear:
            self._low, self._high = 0.0, _round_up(max(values))
        else:
            positive = [value for value in values if value > 0] or [1.0]
            self._low = min(positive) / 1.2
            self._high = max(positive) * 1.2

    def place(self, value: float) -> float:
        """The pixel of a value; values outside the axis are put on its end."""
        value = min(max(value, self._low), self._high)
        if self._linear:
            share = (value - self._low) / (self._high - self._low)
        else:
            share = math.log(value / self._low) / math.log(self._high / self._low)
        return self._first + share * (self._last - self._first)

    def marks(self) -> list[float]:
        """Round values to label."""
        if self._linear:
            return [self._high * k / 4 for k in range(5)]
        lowest, highest = math.floor(math.log10(self._low)), math.ceil(math.log10(self._high))
        steps = (1, 2, 5) if highest - lowest <= 3 else (1,)
        marks = [step * 10.0**power for power in range(lowest, highest + 1) for step in steps]
        return [mark for mark in marks if self._low <= mark <= self._high]


def _round_up(value: float) -> float:
    """The next larger 1, 2, 4 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 10) if step * power >= value)
