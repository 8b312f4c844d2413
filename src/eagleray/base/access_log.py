"""The access log: one line per request, written in bursts and never by the request itself.

A request appends a tuple; a timer that is armed by the first of them formats what has gathered and writes it at once,
because a log record for each would cost more than the request. An idle process has no timer. Each line has the time
at which its request ended, so lines of other loggers may stand before it although they are later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.log_formats import Component, encode, shown_id, stamp, trace_id

Client = tuple[str, int]
Entry = tuple[str, str, "int | str", float, float, str, str, str, "Client | None"]
"""Method, route, status, begin and end (monotonic seconds), request id, application, traceparent, client."""

_FLUSH_S = 0.5
"""How old a line may become before it is in the file."""

BURST = 256
"""Lines that are written at once at most: about 0.5 ms of the event loop, and less than 100 kB of memory."""

_FILE = "access_log.py"


class AccessLog:
    """`write` gets several lines at once, without the last line's end. Belongs to one event loop."""

    def __init__(
        self,
        write: Callable[[str], object],
        component: Component,
        *,
        is_json: bool = False,
        client_address: bool = False,
        attributes: Sequence[str] = (),
        burst: int = BURST,
    ) -> None:
        self._write = write
        self._origin = component.origin
        self._fields = component.json_fields()
        self._is_json = is_json
        self._client_address = client_address
        self._attributes = tuple(attributes)
        self._burst = burst
        self._entries: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._record = logging.LogRecord("eagleray.access", logging.INFO, _FILE, 0, "", None, None)

    def add(
        self,
        method: str,
        route: str,
        status: int | str,
        started_at: float,
        request_id: str = "",
        app: str = "",
        traceparent: str = "",
        client: Client | None = None,
    ) -> None:
        """Notes a request that ends now."""
        entries = self._entries
        entries.append((method, route, status, started_at, monotonic(), request_id, app, traceparent, client))
        if len(entries) >= self._burst:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        if not entries:
            return
        offset_s = wall_time_s() - monotonic()
        second, date = -1, ""
        lines = []
        line = self._json if self._is_json else self._text
        for entry in entries:
            ended_at = entry[4] + offset_s
            if int(ended_at) != second:
                second, date = int(ended_at), stamp(ended_at)
            lines.append(line(entry, ended_at, f"{date},{int(ended_at * 1000) % 1000:03d}"))
        self._write("\n".join(lines))

    def _text(self, entry: Entry, ended_at: float, time: str) -> str:
        extra = ""
        if self._attributes:
            known = self._known(entry, ended_at, time)
            extra = "".join(f"{known.get(name, '')} " for name in self._attributes)
        scope = f"{shown_id(entry[5])} " if entry[5] else ""
        return f"INFO {time} {self._origin} {scope}{extra}-- {self._message(entry)}"

    def _json(self, entry: Entry, ended_at: float, time: str) -> str:
        method, route, status, started_at, end, request_id, app, traceparent, _ = entry
        found: dict[str, Any] = {"levelname": "INFO", "asctime": time, **self._fields}
        if request_id:
            found["request_id"] = shown_id(request_id)
        found["route"] = route
        if app:
            found["application"] = app
        if traceparent and (trace := trace_id(traceparent)):
            found["trace_id"] = trace
        found["message"] = self._message(entry)
        found["method"], found["status"] = method, status
        found["latency_ms"] = round((end - started_at) * 1000, 3)
        found["filename"], found["lineno"] = _FILE, 0
        found["process"] = self._record.process
        found["timestamp_ns"] = int(ended_at * 1e9)
        if self._attributes:
            known = self._known(entry, ended_at, time)
            found.update((name, known.get(name)) for name in self._attributes)
        return encode(found)

    def _message(self, entry: Entry) -> str:
        method, route, status, started_at, ended_at, _, _, _, client = entry
        origin = f"{client[0]}:{client[1]} " if client and self._client_address else ""
        return f"{origin}{method} {route} {status} {(ended_at - started_at) * 1000:.1f}ms"

    def _known(self, entry: Entry, ended_at: float, time: str) -> dict[str, Any]:
        """The attributes that a log record of this line would have."""
        message = self._message(entry)
        return {
            **self._record.__dict__,
            "message": message,
            "msg": message,
            "asctime": time,
            "created": ended_at,
            "msecs": ended_at * 1000 % 1000,
        }
