"""The report of a load as a picture: latency by percentile, and rates over time. Plain SVG, made of the document alone.

It says with shapes what the text says with numbers; colours are never the only difference. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import escape

from eagleray.loadtest.report import shown_ms

_WIDTH, _HEIGHT = 760, 250
"""Of one panel, in pixels."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 70, 40, 40
_TICKS = 4

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #ddd }
.rate { stroke: #1f6feb; stroke-width: 2; fill: none }
.late { stroke: #8250df; stroke-width: 2; fill: none; stroke-dasharray: 6 3 }
.failed { stroke: #cf222e; stroke-width: 2; fill: none; stroke-dasharray: 2 3 }
"""


def draw(found: dict[str, Any]) -> str:
    """An SVG document of what `report.summary` has made."""
    panels = [_percentiles(found["percentiles_ms"]), _over_time(found["points"])]
    title = f"{found['method']} {found['url']}: {found['rps']:,.1f} good answers/s"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {len(panels) * _HEIGHT + 30}" '
        f'width="{_WIDTH}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0 {30 + number * _HEIGHT})">{"".join(panel)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _percentiles(found: Sequence[Sequence[float]]) -> Iterable[str]:
    """Each nine of the percentile is as wide as the one before it."""
    yield f'<text x="{_LEFT}" y="{_TOP - 14}">latency by percentile</text>'
    if not found:
        yield f'<text x="{_LEFT}" y="{_HEIGHT // 2}">no good answer</text>'
        return
    nines = [-math.log10(1 - percent / 100) for percent, _ in found]
    widest = max(nines[-1], 1.0)
    top = _round_up(max(latency for _, latency in found))
    yield from _grid(top, lambda value: shown_ms(value), is_left=True)
    for nine in range(int(widest) + 1):
        x = _x(nine / widest)
        label = "p0" if nine == 0 else f"p{100 - 10 ** (2 - nine):g}"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        yield f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{label}</text>'
    line = ((nine / widest, latency / top) for nine, (_, latency) in zip(nines, found, strict=True))
    yield _line("late", line)


def _over_time(points: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield (
        f'<text x="{_LEFT}" y="{_TOP - 14}">good answers/s (solid), p99 (dashes, right) and failures/s (dots) '
        "over seconds</text>"
    )
    if not points:
        return
    end = points[-1]["t_s"]
    rates = [(point["t_s"] / end, point["rps"]) for point in points]
    failed = [(point["t_s"] / end, point["failed_per_s"]) for point in points]
    late = [(point["t_s"] / end, point["p99_ms"]) for point in points if point["p99_ms"] is not None]
    top = _round_up(max(value for _, value in rates + failed))
    yield from _grid(top, lambda value: f"{value:,.4g}", is_left=True)
    yield _line("rate", ((x, value / top) for x, value in rates))
    if any(value for _, value in failed):
        yield _line("failed", ((x, value / top) for x, value in failed))
    if late:
        latest = _round_up(max(value for _, value in late))
        yield from _grid(latest, lambda value: shown_ms(value), is_left=False)
        yield _line("late", ((x, value / latest) for x, value in late))
    for share in (0.0, 0.5, 1.0):
        yield f'<text x="{_x(share)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{end * share:.3g}</text>'


def _grid(top: float, label: Any, *, is_left: bool) -> Iterable[str]:
    for tick in range(_TICKS + 1):
        y = _y(tick / _TICKS)
        if is_left:
            yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        x, anchor = (_LEFT - 6, "end") if is_left else (_WIDTH - _RIGHT + 6, "start")
        yield f'<text x="{x}" y="{y + 4}" text-anchor="{anchor}">{escape(label(top * tick / _TICKS))}</text>'


def _line(kind: str, places: Iterable[tuple[float, float]]) -> str:
    """Through places that are shares of the panel's width and height."""
    drawn = " ".join(f"{_x(x)},{_y(y)}" for x, y in places)
    return f'<polyline class="{kind}" points="{drawn}"/>'


def _x(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _round_up(value: float) -> float:
    """To a number that can be divided by the ticks and read."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 4, 6, 8, 10) if unit * step >= value * 0.999999)
