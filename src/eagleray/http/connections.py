"""All open connections of one listener: the settings they share, and the one timer that judges their waits.

A connection never arms a timer. Once a second, and only while connections exist, a sweep looks at each of them and
asks what has happened since the last look; so the request path pays nothing for deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from eagleray.base.clock import wall_time_s
from eagleray.http.limits import HttpLimits
from eagleray.http.response import common_fields

SWEEP_S = 1.0
"""Seconds between sweeps: one wake-up a second is what an otherwise idle process may cost."""


class Connection(Protocol):
    """What the sweep and the drain need of a connection."""

    def check(self) -> None: ...

    def close_when_idle(self) -> None: ...

    def abort(self) -> None: ...


class Connections:
    """Owns nothing but the sweep timer; connections add and discard themselves."""

    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.limits = limits or HttpLimits()
        self.common = b""
        """`server` and `date` of every response, renewed once a second."""
        self.draining = False
        """Each connection is closed after its next answer."""
        self.ending = False
        """Connections that are idle are closed."""
        self.on_discard: Callable[[], None] | None = None
        """Called whenever a connection has ended: a file descriptor is free again."""
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> None:
        self._open.add(connection)
        if self._timer is None:
            self.common = common_fields(wall_time_s())
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._on_timer)

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        if self.on_discard is not None:
            self.on_discard()

    def sweep(self) -> None:
        """One look at every connection; the timer's work, and a test's way to let a second pass."""
        self.common = common_fields(wall_time_s())
        for connection in tuple(self._open):
            connection.check()

    def _on_timer(self) -> None:
        self._timer = None
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._on_timer)
            self.sweep()

    async def drain(self, timeout_s: float) -> None:
        """Ends idle connections now and the others after their present request; cuts off who is not done in time.

        One that has just come has a second or two to send its request.
        """
        self.draining = self.ending = True
        for connection in tuple(self._open):
            connection.close_when_idle()
        if self._open:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=timeout_s)
        self.close()

    def close(self) -> None:
        """Cuts off every connection and stops the timer. Idempotent."""
        self.draining = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in tuple(self._open):
            connection.abort()
