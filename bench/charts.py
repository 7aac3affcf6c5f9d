"""Plots as SVG text: bars in panels, and lines over time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from math import log10

__all__ = ["bars", "lines"]

OURS, OTHERS, INK = "#0b6e99", "#b8c4cc", "#26323a"
COLOURS = ("#0b6e99", "#d1603d", "#6a994e", "#8e6bbf")
FONT = "font-family='system-ui, sans-serif'"

Panel = tuple[str, Mapping[str, float]]
Points = Sequence[tuple[float, float]]


def bars(title: str, panels: Sequence[Panel], ours: Collection[str]) -> str:
    """Return panels of horizontal bars, two in a row; the bars of ``ours`` stand out."""
    width, across = 460, 2
    parts = []
    top = 50
    for start in range(0, len(panels), across):
        row = panels[start : start + across]
        for column, (name, values) in enumerate(row):
            parts.append(_panel(20 + column * width, top, name, values, ours))
        top += 46 + 22 * max(len(values) for _, values in row)
    heading = f"<text x='20' y='28' font-size='17' font-weight='600'>{escape(title)}</text>"
    return _document(width * across + 20, top, [heading, *parts])


def _panel(x: int, y: int, name: str, values: Mapping[str, float], ours: Collection[str]) -> str:
    most = max(max(values.values()), 1e-9)
    parts = [f"<text x='{x}' y='{y + 12}' font-size='13' font-weight='600'>{escape(name)}</text>"]
    for number, (label, value) in enumerate(values.items()):
        at = y + 20 + 22 * number
        length = max(1.0, 250 * value / most)
        fill = OURS if label in ours else OTHERS
        parts.append(
            f"<text x='{x + 82}' y='{at + 13}' font-size='12' text-anchor='end'>{escape(label)}"
            f"</text><rect x='{x + 90}' y='{at}' width='{length:.1f}' height='17' fill='{fill}'/>"
            f"<text x='{x + 96 + length:.1f}' y='{at + 13}' font-size='12'>{_short(value)}</text>"
        )
    return "".join(parts)


def lines(title: str, unit: str, series: Mapping[str, Points], log: bool = False) -> str:
    """Return lines over seconds; ``log``: a logarithmic scale, zeros are left out."""
    width, height, left, top, bottom = 760, 260, 70, 40, 36
    kept = {
        name: [(x, y) for x, y in points if y > 0 or not log] for name, points in series.items()
    }
    everything = [point for points in kept.values() for point in points]
    heading = (
        f"<text x='20' y='24' font-size='14' font-weight='600'>{escape(title)}"
        f" <tspan font-weight='400'>({escape(unit)})</tspan></text>"
    )
    if not everything:
        nothing = f"<text x='{left}' y='{height / 2}' font-size='13'>nothing was measured</text>"
        return _document(width, height, [heading, nothing])
    end = max(x for x, _ in everything) or 1.0
    most = max(y for _, y in everything) or 1.0
    least = min(y for _, y in everything) if log else 0.0
    if least == most:
        least = most / 2
    parts = [heading]

    def place(x: float, y: float) -> tuple[float, float]:
        share = log10(y / least) / log10(most / least) if log else (y - least) / (most - least)
        room = height - top - bottom
        return left + (width - left - 20) * x / end, top + room * (1 - share)

    for step in range(5):
        value = least * (most / least) ** (step / 4) if log else least + (most - least) * step / 4
        _, y = place(0, value)
        parts.append(
            f"<line x1='{left}' x2='{width - 20}' y1='{y:.1f}' y2='{y:.1f}' stroke='#e3e8eb'/>"
            f"<text x='{left - 6}' y='{y + 4:.1f}' font-size='11' text-anchor='end'>"
            f"{_short(value)}</text>"
        )
    for step in range(6):
        x, _ = place(end * step / 5, most)
        parts.append(
            f"<text x='{x:.1f}' y='{height - 14}' font-size='11' text-anchor='middle'>"
            f"{_short(end * step / 5)} s</text>"
        )
    for number, (name, points) in enumerate(kept.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'/>"
            f"<text x='{width - 24 - 90 * number}' y='24' font-size='12' text-anchor='end'"
            f" fill='{colour}'>{escape(name)}</text>"
        )
    return _document(width, height, parts)


def _document(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'"
        f" width='{width}' height='{height}' {FONT} fill='{INK}'>"
        f"<rect width='100%' height='100%' fill='#fff'/>{''.join(parts)}</svg>\n"
    )


def _short(value: float) -> str:
    """Return three figures, as people write them."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.2f} M"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if size >= 100 or value == int(value) else f"{value:.3g}"
