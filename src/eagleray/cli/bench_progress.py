"""How a load goes, while it goes: a bar with live percentiles on a terminal, a line a second otherwise.

The thread that sends only stores a number here: drawing takes milliseconds, which would be measured as latency. So it
is done by a thread of its own that gives way to the other one quickly.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import click

from eagleray.loadtest.plan import Plan
from eagleray.loadtest.report import shown_ms, to_ms
from eagleray.loadtest.tally import Point

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_REFRESH_PER_S = 4.0
_WIDTH = 60
"""Of the bar, in characters."""
_SWITCH_S = 0.0002
"""How long the drawing thread may hold the interpreter while the other one wants it."""


class Progress(Protocol):
    """What is shown of one or several loads, one after the other."""

    def begin(self, plan: Plan) -> None:
        """A load begins."""

    def tick(self, point: Point | None) -> None:
        """It tells once a second: the newest point, or None during the warm-up."""

    def say(self, text: str) -> None:
        """A line that stays. Only between loads."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Shown on standard error until the end of the block."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # only terminals need it
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    bar = _Bar(console)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        live = Live(
            get_renderable=bar.draw,
            console=console,
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
    def begin(self, plan: Plan) -> None:
        if plan.rate is not None:
            self.say(f"{plan.rate:,.1f}/s")

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: that is no reason to measure nothing
            click.echo(text, err=True)

    def tick(self, point: Point | None) -> None:
        self.say("warming up" if point is None else describe(point))


class _Bar:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._plan: Plan | None = None
        self._began = time.monotonic()
        self._point: Point | None = None

    def begin(self, plan: Plan) -> None:
        self._began = time.monotonic()
        self._point = None
        self._plan = plan

    def say(self, text: str) -> None:
        self._plan = None
        self._console.print(text, markup=False)

    def tick(self, point: Point | None) -> None:
        self._point = point or self._point

    def draw(self) -> RenderableType:
        from rich.progress_bar import ProgressBar  # see above
        from rich.table import Table
        from rich.text import Text

        plan, point = self._plan, self._point
        if plan is None:
            return Text("waiting for the server to recover" if point is not None else "starting")
        gone = time.monotonic() - self._began
        rate = f"{plan.rate:,.1f}/s   " if plan.rate is not None else ""
        shown = Table.grid()
        shown.add_row(ProgressBar(total=plan.warm_up_s + plan.duration_s, completed=gone, width=_WIDTH))
        shown.add_row(Text(rate + ("warming up" if point is None else describe(point).strip())))
        return shown
