"""The access log: one line per request, written in bursts and never by the request itself.

A request only leaves the pieces of its line, nearly all of which are there already and shared by many lines: a log
record for each would cost more than the request, and whatever is made for a line and kept until the burst is written
pushes something else out of the processor's caches. What fills a burst writes it, else a timer that is armed by the
first line. An idle process has no timer. Each line has the time at which its request ended, so lines of other loggers
may stand before it although they are later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol

from eagleray.base.clock import wall_time_s
from eagleray.base.log_formats import MAX_ID, Component, encode, shown_id, stamp, trace_id

Client = tuple[str, int]


class Head(Protocol):
    """What a request says of itself."""

    request_id: str
    app: str
    traceparent: str


BURST = 512
"""Lines that are written at once at most."""

FLUSH_S = 0.5
"""How old a line may become before it is in the file."""

_FILE = "access_log.py"
_MOST_KNOWN = 1024
"""Combinations of method, route, status and application whose parts of a JSON line are remembered."""

_SHORT = tuple(f"{tenths / 10:.1f}ms\n" for tenths in range(512))
"""How a line ends, by tenths of milliseconds: formatting a float is half of the cost of a line."""

_PLAIN = bytes(code for code in range(33, 127) if code not in b'"\\')
"""Characters of request ids that may stand in a line as they are, in JSON too."""


class AccessLog:
    """`write` gets several whole lines at once. Belongs to one event loop."""

    WIDTH = 0
    """Pieces of a line."""
    ID = 0
    """Which of them is the request id."""

    def __init__(self, write: Callable[[str], object], component: Component, burst: int = BURST) -> None:
        self._write = write
        self._origin = component.origin
        self._full = burst * self.WIDTH
        self._pieces: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
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
        began: float,
        ended: float,
        head: Head,
        client: Client | None = None,
    ) -> None:
        """Notes a request that has ended just now; `began` and `ended` are monotonic seconds."""
        raise NotImplementedError

    def flush(self) -> None:
        """Writes what has gathered."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._mend(pieces)
            self._write("".join(pieces))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.flush()

    def _turn(self, now: float) -> None:
        """Another millisecond has begun."""
        self._offset_s = wall_time_s() - monotonic()
        millis = int((now + self._offset_s) * 1000)
        second = millis // 1000
        if second != self._second:
            self._second, self._stamp = second, stamp(second)
        self._prefix = self._begin(f"{self._stamp},{millis % 1000:03d}")
        self._turns_at = (millis + 1) / 1000 - self._offset_s

    def _begin(self, time: str) -> str:
        """How lines of that time begin."""
        raise NotImplementedError

    # ---- request ids, which clients may choose -------------------------------------------------------------------

    def _mend(self, pieces: list[str]) -> None:
        """Shows odd request ids in a way that does no harm; all are looked at together, since hardly any is odd."""
        ids = pieces[self.ID :: self.WIDTH]
        text = "".join(ids)
        plain = text.isascii() and not text.encode().translate(None, _PLAIN)
        if not plain or not all(ids) or max(map(len, ids)) > MAX_ID:
            for at in range(self.ID, len(pieces), self.WIDTH):
                self._show_id(pieces, at)

    def _show_id(self, pieces: list[str], at: int) -> None:
        raise NotImplementedError


class TextAccessLog(AccessLog):
    """`INFO 2026-01-02 03:04:05,678 proxy p1 <request id> -- GET /route 200 1.2ms`."""

    WIDTH = 4
    ID = 1

    def __init__(self, write: Callable[[str], object], component: Component, burst: int = BURST) -> None:
        super().__init__(write, component, burst)
        self._method, self._route = "", ""
        self._status: int | str = 0
        self._message = ""
        """What the last line says of those three, which the next one often shares."""

    def add(
        self,
        method: str,
        route: str,
        status: int | str,
        began: float,
        ended: float,
        head: Head,
        client: Client | None = None,
    ) -> None:
        if ended >= self._turns_at:
            self._turn(ended)
        if status != self._status or route != self._route or method != self._method:
            self._status, self._route, self._method = status, route, method
            self._message = f" -- {method} {route} {status} "
        tenths = int((ended - began) * 10000.0 + 0.5)
        took = _SHORT[tenths] if tenths < 512 else f"{tenths / 10}ms\n"
        pieces = self._pieces
        pieces += (self._prefix, head.request_id, self._message, took)
        if len(pieces) >= self._full:
            self.flush()
        elif self._timer is None:
            self._arm()

    def _begin(self, time: str) -> str:
        return f"INFO {time} {self._origin} "

    def _show_id(self, pieces: list[str], at: int) -> None:
        if pieces[at]:
            pieces[at] = shown_id(pieces[at])
        else:
            pieces[at + 1] = pieces[at + 1][1:]


class JsonAccessLog(AccessLog):
    """One object a line, with the fields that log records have too, and those of the request."""

    WIDTH = 7
    ID = 2

    def __init__(self, write: Callable[[str], object], component: Component, burst: int = BURST) -> None:
        super().__init__(write, component, burst)
        self._fields = component.json_fields()
        self._known: dict[tuple[str, str, int | str, str], tuple[str, ...]] = {}
        self._process = logging.LogRecord("", 0, "", 0, "", None, None).process

    def add(
        self,
        method: str,
        route: str,
        status: int | str,
        began: float,
        ended: float,
        head: Head,
        client: Client | None = None,
    ) -> None:
        app, traceparent = head.app, head.traceparent
        if ended >= self._turns_at:
            self._turn(ended)
        key = (method, route, status, app)
        fields, message, values, tail = self._known.get(key) or self._open(key)
        trace = trace_id(traceparent) if traceparent else ""
        after_id = f'","trace_id":"{trace}",' if trace.isalnum() else '",'
        took_ms = (ended - began) * 1000.0
        took = f"{int(took_ms * 10.0 + 0.5) / 10}{values}{took_ms:.3f}"
        end = f"{tail}{int((ended + self._offset_s) * 1e9)}}}\n"
        pieces = self._pieces
        pieces += (self._prefix, fields, head.request_id, after_id, message, took, end)
        if len(pieces) >= self._full:
            self.flush()
        elif self._timer is None:
            self._arm()

    def _open(self, key: tuple[str, str, int | str, str]) -> tuple[str, ...]:
        """What lies between the changing parts of a line, which are: id, milliseconds twice, nanoseconds."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        method, route, status, app = key
        fields = {**self._fields, "route": route, **({"application": app} if app else {})}
        message = encode({"message": f"{method} {route} {status} "})[1:-2]
        found = encode({"method": method, "status": status})[1:-1]
        parts = self._known[key] = (
            f',{encode(fields)[1:-1]},"request_id":"',
            message,
            f'ms",{found},"latency_ms":',
            f',"filename":"{_FILE}","lineno":0,"process":{self._process},"timestamp_ns":',
        )
        return parts

    def _begin(self, time: str) -> str:
        return f'{{"levelname":"INFO","asctime":"{time}"'

    def _show_id(self, pieces: list[str], at: int) -> None:
        request_id = pieces[at]
        if request_id:
            pieces[at] = encode({"": shown_id(request_id)})[5:-2]
        else:
            pieces[at - 1] = pieces[at - 1].removesuffix(',"request_id":"')
            pieces[at + 1] = "," + pieces[at + 1].removeprefix('",')


class FullAccessLog(AccessLog):
    """Lines with further attributes of log records, or with addresses; each is formatted by its request."""

    WIDTH = 1

    def __init__(
        self,
        write: Callable[[str], object],
        component: Component,
        burst: int = BURST,
        *,
        is_json: bool = False,
        client_address: bool = False,
        attributes: Sequence[str] = (),
    ) -> None:
        super().__init__(write, component, burst)
        self._format = self._json if is_json else self._text
        self._client_address = client_address
        self._attributes = tuple(attributes)
        self._fields = component.json_fields()
        self._record = logging.LogRecord("eagleray.access", logging.INFO, _FILE, 0, "", None, None)

    def add(
        self,
        method: str,
        route: str,
        status: int | str,
        began: float,
        ended: float,
        head: Head,
        client: Client | None = None,
    ) -> None:
        request_id, app, traceparent = head.request_id, head.app, head.traceparent
        if ended >= self._turns_at:
            self._turn(ended)
        origin = f"{client[0]}:{client[1]} " if client and self._client_address else ""
        tenths = int((ended - began) * 10000.0 + 0.5)
        message = f"{origin}{method} {route} {status} {tenths / 10}ms"
        known = self._attributes_of(message, ended + self._offset_s) if self._attributes else {}
        fields: dict[str, Any] = {"route": route, "application": app, "trace_id": trace_id(traceparent)}
        fields |= {"message": message, "method": method, "status": status}
        fields["latency_ms"] = round((ended - began) * 1000, 3)
        fields["timestamp_ns"] = int((ended + self._offset_s) * 1e9)
        self._pieces.append(f"{self._format(shown_id(request_id), fields, known)}\n")
        if len(self._pieces) >= self._full:
            self.flush()
        elif self._timer is None:
            self._arm()

    def _begin(self, time: str) -> str:
        return time

    def _text(self, request_id: str, fields: dict[str, Any], known: dict[str, Any]) -> str:
        extra = "".join(f"{'' if value is None else value} " for value in known.values())
        scope = f"{request_id} " if request_id else ""
        return f"INFO {self._prefix} {self._origin} {scope}{extra}-- {fields['message']}"

    def _json(self, request_id: str, fields: dict[str, Any], known: dict[str, Any]) -> str:
        found: dict[str, Any] = {"levelname": "INFO", "asctime": self._prefix, **self._fields}
        if request_id:
            found["request_id"] = request_id
        found |= {
            key: value for key, value in fields.items() if value or key not in ("application", "trace_id")
        }
        found["filename"], found["lineno"], found["process"] = _FILE, 0, self._record.process
        return encode(found | known)

    def _attributes_of(self, message: str, ended_at: float) -> dict[str, Any]:
        """The attributes that were asked for, as a log record of this line would have them."""
        known = {
            **self._record.__dict__,
            "message": message,
            "msg": message,
            "asctime": self._prefix,
            "created": ended_at,
            "msecs": ended_at * 1000 % 1000,
        }
        return {name: known.get(name) for name in self._attributes}

    def _mend(self, pieces: list[str]) -> None:
        """Ids are shown so from the first."""
