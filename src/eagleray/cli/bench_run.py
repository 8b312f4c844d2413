"""One load on an event loop of its own: shows how it goes, and ends it early on Ctrl-C with what was measured.

Progress goes to standard error: the report may be piped.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import uvloop

from eagleray.cli.bench_progress import progress
from eagleray.http.listen import raise_descriptor_limit
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Message, Plan, Url
from eagleray.loadtest.report import summary
from eagleray.loadtest.run import find_server


def run(url: Url, message: Message, plan: Plan) -> tuple[dict[str, Any], bool]:
    """The report, and whether it was interrupted. Raises EaglerayError when there is nothing to measure."""
    return uvloop.run(_run(url, message, plan))


async def _run(url: Url, message: Message, plan: Plan) -> tuple[dict[str, Any], bool]:
    request = message.encode(url, keep_alive=plan.keep_alive)
    raise_descriptor_limit()
    address = await find_server(url)
    with progress(plan) as shown:
        load = Load(plan, address, request, on_tick=shown.tick)
        interrupted = _stop_on_signals(load.stop)
        tally = await load.run()
    return summary(url, message, plan, tally), interrupted.is_set()


def _stop_on_signals(stop: Callable[[], None]) -> asyncio.Event:
    """Set when there was one. A second one ends the command at once."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        interrupted.set()
        stop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupt)
    return interrupted
