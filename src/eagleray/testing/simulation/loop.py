"""An asyncio event loop whose time is a number: it jumps to the next timer as soon as nothing is left to do.

The order of everything that happens follows from the order in which it was scheduled, so the same seed gives the same
run. Nothing here waits for the real world; work for threads is done on the loop after a delay that the owner chooses.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from collections.abc import Callable
from typing import Any


class Stalled(Exception):
    """Nothing is scheduled any more, and the run has not ended: somebody waits for what cannot come."""


class _Selector:
    """Stands where the kernel is asked what has happened: nothing ever does, but time passes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stalled("nothing is scheduled any more")
        if timeout > 0:
            self._loop.jump()
        return []

    def close(self) -> None:
        """Nothing is held."""


class VirtualLoop(base_events.BaseEventLoop):
    """Begins at `start_s`. `disk_s` gives how long the disk takes, before and after each piece of work."""

    def __init__(self, start_s: float = 1000.0) -> None:
        super().__init__()
        self._now = start_s
        self._clock_resolution = 1e-9
        self._selector = _Selector(self)
        self.disk_s: Callable[[], float] = lambda: 0.001

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """To the next timer."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        self._now = max(self._now, scheduled[0].when())

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """There is one thread, so nobody sleeps who must be woken."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Takes some time until `func` has run, and some more until that is known, as with a disk."""
        done: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            try:
                result, error = func(*args), None
            except BaseException as failure:
                result, error = None, failure
            self.call_later(self.disk_s(), tell, result, error)

        def tell(result: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        self.call_later(self.disk_s(), work)
        return done

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        """`sock` is a listener of the simulated network."""
        return options["sock"].open(protocol_factory)
