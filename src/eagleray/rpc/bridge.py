"""The way between threads: functions put in from any thread run on the bridge's loop, in order, a burst at a time.

One wake-up of the loop serves all that came before it: a wake-up is a system call and costs more than the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

logger = logging.getLogger("eagleray.rpc")


class Bridge:
    """Runs functions on `loop`. One Bridge serves one direction; any number of threads may put."""

    __slots__ = ("_awake", "_closed", "_loop", "_queue")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._awake = False
        self._closed = False

    def put(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> bool:
        """Has `fn(*args)` run on the loop, after all that was put before. False: closed, it will not run.

        What it raises is logged.
        """
        if self._closed:
            return False
        self._queue.append((fn, args))
        # Unlocked on purpose: two threads may both see False, and then the loop wakes once more for nothing. The
        # other order cannot happen, because _run clears the flag before it looks at the queue.
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:  # the loop was closed without telling us
                self._closed = True
                return False
        return True

    def _run(self) -> None:
        self._awake = False
        queue = self._queue
        # Bounded by what is here now: what is put meanwhile sees the flag cleared and wakes the loop again.
        for _ in range(len(queue)):
            fn, args = queue.popleft()
            try:
                fn(*args)
            except Exception:
                logger.exception("a function put on the bridge has failed")

    def close(self) -> None:
        """Takes no more; what was put before still runs, when the loop does. Idempotent."""
        self._closed = True
