"""The access log: one line per request, written in bursts and never by the request itself.

A request appends a tuple; a timer that is armed by the first of them formats what has gathered into one log record of
several lines, because a record for each would cost more than the request. An idle proxy has no timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from eagleray.base.clock import wall_time_s

Entry = tuple[str, str, int | str, float, "tuple[str, int] | None"]
"""Method, route, status (of gRPC: its name), seconds taken, client."""

_FLUSH_S = 0.5
"""How old a line may become before it is in the file."""


class AccessLog:
    """`emit` gets several lines at once, the first without a prefix, since the log's formatter gives it one."""

    def __init__(self, emit: Callable[[str], object], origin: str, *, client_address: bool = False) -> None:
        self._emit = emit
        self._origin = origin
        self._client_address = client_address
        self._entries: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self, method: str, route: str, status: int | str, seconds: float, client: tuple[str, int] | None
    ) -> None:
        """Notes a finished request."""
        self._entries.append((method, route, status, seconds, client))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        if not entries:
            return
        now = wall_time_s()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        separator = f"\nINFO {stamp},{int(now * 1000) % 1000:03d} {self._origin} -- "
        if self._client_address:
            lines = [
                f"{_origin_of(client)}{method} {route} {status} {seconds * 1000:.1f}ms"
                for method, route, status, seconds, client in entries
            ]
        else:
            lines = [
                f"{method} {route} {status} {seconds * 1000:.1f}ms"
                for method, route, status, seconds, _ in entries
            ]
        self._emit(separator.join(lines))


def _origin_of(client: tuple[str, int] | None) -> str:
    return f"{client[0]}:{client[1]} " if client else ""
