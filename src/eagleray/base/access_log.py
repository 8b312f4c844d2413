"""The access log: one line per request, written in bursts and never by the request itself.

A request only joins its line from parts that are known already, since a log record for each would cost more than the
request, and formatting many at once would hold up all that are under way. A timer that is armed by the first line
writes what has gathered. An idle process has no timer. Each line has the time at which its request ended, so lines of
other loggers may stand before it although they are later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.log_formats import MAX_ID, Component, encode, shown_id, stamp, trace_id

Client = tuple[str, int]
Entry = tuple[str, str, "int | str", float, float, str, str, str, "Client | None"]
"""Method, route, status, begin and end (monotonic seconds), request id, application, traceparent, client."""

_FLUSH_S = 0.5
"""How old a line may become before it is in the file."""

BURST = 256
"""Lines that are written at once at most: less than 100 kB of memory."""

_FILE = "access_log.py"
_MOST_KNOWN = 1024
"""Combinations of method, route and status whose parts of a line are remembered."""


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
        self._is_plain = not attributes and not client_address
        self._burst = burst
        self._lines: list[str] = []
        self._ids: list[str] = []
        """The request ids of those lines that were joined without a look at them."""
        self._timer: asyncio.TimerHandle | None = None
        self._known_parts: dict[tuple[str, str, int | str, str], tuple[str, ...]] = {}
        self._record = logging.LogRecord("eagleray.access", logging.INFO, _FILE, 0, "", None, None)
        self._offset_s = 0.0
        self._second = -1
        self._stamp = ""
        self._prefix = ""
        """How lines begin until `_turns_at`, which is less than a millisecond from when it was made."""
        self._turns_at = 0.0

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
        now = monotonic()
        if now >= self._turns_at:
            self._turn(now)
        lines = self._lines
        if request_id and self._is_plain:
            parts = self._known_parts.get((method, route, status, app))
            if parts is None:
                parts = self._open_parts((method, route, status, app))
            took_ms = (now - started_at) * 1000.0
            if self._is_json:
                trace = trace_id(traceparent) if traceparent else ""
                scope = f'"trace_id":"{trace}",' if trace.isalnum() else ""
                lines.append(
                    f'{self._prefix}{parts[0]}"{request_id}",{scope}{parts[1]}{took_ms:.1f}{parts[2]}{took_ms:.3f}'
                    f"{parts[3]}{int((now + self._offset_s) * 1e9)}}}"
                )
            else:
                lines.append(f"{self._prefix}{request_id}{parts[0]}{took_ms:.1f}ms")
            self._ids.append(request_id)
        else:
            line = self._json if self._is_json else self._text
            entry = (method, route, status, started_at, now, request_id, app, traceparent, client)
            lines.append(line(entry, now + self._offset_s))
            self._ids.append("")
        if len(lines) >= self._burst:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, ids = self._lines, self._ids
        self._lines, self._ids = [], []
        if not lines:
            return
        if not _are_plain(ids):
            lines = [self._mended(line, request_id) for line, request_id in zip(lines, ids, strict=True)]
        self._write("\n".join(lines))

    def _mended(self, line: str, request_id: str) -> str:
        if not request_id or _are_plain([request_id]):
            return line
        shown = shown_id(request_id)
        if not self._is_json:
            return line.replace(request_id, shown, 1)
        return line.replace(f'"{request_id}"', encode({"": shown})[4:-1], 1)

    # ---- the parts of a line -----------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Another millisecond has begun."""
        self._offset_s = wall_time_s() - monotonic()
        millis = int((now + self._offset_s) * 1000)
        second = millis // 1000
        if second != self._second:
            self._second, self._stamp = second, stamp(second)
        time = f"{self._stamp},{millis % 1000:03d}"
        if self._is_json:
            self._prefix = f'{{"levelname":"INFO","asctime":"{time}"'
        else:
            self._prefix = f"INFO {time} {self._origin} "
        self._turns_at = (millis + 1) / 1000 - self._offset_s

    def _open_parts(self, key: tuple[str, str, int | str, str]) -> tuple[str, ...]:
        """What lies between the changing parts of a line: of JSON these are id, milliseconds twice, nanoseconds."""
        if len(self._known_parts) >= _MOST_KNOWN:
            self._known_parts.clear()
        method, route, status, app = key
        if not self._is_json:
            parts: tuple[str, ...] = (f" -- {method} {route} {status} ",)
        else:
            fields = {**self._fields, "route": route, **({"application": app} if app else {})}
            message = encode({"message": f"{method} {route} {status} "})[1:-2]
            found = encode({"method": method, "status": status})[1:-1]
            parts = (
                f',{encode(fields)[1:-1]},"request_id":',
                message,
                f'ms",{found},"latency_ms":',
                f',"filename":"{_FILE}","lineno":0,"process":{self._record.process},"timestamp_ns":',
            )
        self._known_parts[key] = parts
        return parts

    # ---- with attributes, addresses, or odd request ids --------------------------------------------------------

    def _text(self, entry: Entry, ended_at: float) -> str:
        time = _time(ended_at)
        extra = ""
        if self._attributes:
            known = self._known(entry, ended_at, time)
            extra = "".join(f"{known.get(name, '')} " for name in self._attributes)
        scope = f"{shown_id(entry[5])} " if entry[5] else ""
        return f"INFO {time} {self._origin} {scope}{extra}-- {self._message(entry)}"

    def _json(self, entry: Entry, ended_at: float) -> str:
        time = _time(ended_at)
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


def _time(wall_s: float) -> str:
    return f"{stamp(wall_s)},{int(wall_s * 1000) % 1000:03d}"


def _are_plain(ids: list[str]) -> bool:
    """Whether all may stand in a line as they are, in JSON too; asked once for all, since ids are hardly ever odd."""
    text = "".join(ids)
    return (
        text.isascii()
        and text.isprintable()
        and " " not in text
        and '"' not in text
        and "\\" not in text
        and max(map(len, ids)) <= MAX_ID
    )
