"""How a load goes, while it goes: a bar with live percentiles on a terminal, a line a second otherwise.

The thread that sends only stores a number here: drawing takes milliseconds, which would be measured as latency. So it
is done by a thread of its own that gives way to the other one quickly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from eagleray.loadtest.plan import Plan
from eagleray.loadtest.report import shown_ms, to_ms
from eagleray.loadtest.tally import Point

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_PER_S = 4.0
_SWITCH_S = 0.0002
"""How long the drawing thread may hold the interpreter while the other one wants it."""


class Progress(Protocol):
    """What a load tells once a second: the newest point, or None during the warm-up."""

    def tick(self, point: Point | None) -> None: ...


@contextmanager
def progress(plan: Plan) -> Iterator[Progress]:
    """Shown on standard error until the end of the block."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # only terminals need it
    from rich.live import Live

    bar = _Bar(plan)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        live = Live(
            get_renderable=bar.draw,
            console=Console(stderr=True),
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
        )
        with live:
            yield bar
    finally:
        sys.setswitchinterval(switch_s)


def describe(point: Point) -> str:
    """One line of text."""
    failed = f"   failed {point.failed / point.seconds:,.0f}/s" if point.failed else ""
    return (
        f"{point.t_s:6.0f} s   {point.answered / point.seconds:10,.0f}/s   p50 {shown_ms(to_ms(point.p50_s)):>8}   "
        f"p99 {shown_ms(to_ms(point.p99_s)):>8}{failed}"
    )


class _Lines:
    def tick(self, point: Point | None) -> None:
        click.echo("warming up" if point is None else describe(point), err=True)


class _Bar:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._point: Point | None = None

    def tick(self, point: Point | None) -> None:
        self._point = point or self._point

    def draw(self) -> RenderableType:
        from rich.console import Group  # see above
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        gone = time.monotonic() - self._began
        point = self._point
        return Group(
            ProgressBar(total=self._plan.warm_up_s + self._plan.duration_s, completed=gone, width=60),
            Text("warming up" if point is None else describe(point)),
        )
