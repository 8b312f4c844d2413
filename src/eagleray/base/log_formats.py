"""How a log record is written: the TEXT format that Ray Serve's users know, or JSON, one object a line.

TEXT: `LEVEL YYYY-mm-dd HH:MM:SS,mmm <component> <id> [<request id> ]-- <message>`. JSON has the same under the names
that Ray Serve has, and what else is known. A record that carries `lines` is written as it is: the access log formats
many requests at once. Pure; knows neither files nor what a request is beyond `Scope`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_CONTROL = frozenset(("log_to_stderr", "serve_access_log", "skip_context_filter", "lines"))
"""Keys of `extra` that say what to do with a record and are no part of it."""

MAX_ID = 200
"""Characters of a request id in a line."""


class Scope(Protocol):
    """The request under which a record is written; `request_id` is "" outside of any."""

    request_id: str
    route: str
    app_name: str
    traceparent: str


@dataclass(frozen=True)
class Component:
    """Who writes: `name` and `id` as TEXT shows them, `fields` as JSON does."""

    name: str
    id: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"{self.name} {self.id}"

    def json_fields(self) -> dict[str, str]:
        """What all JSON lines of this process have."""
        return dict(self.fields) or {"component_name": self.name, "component_id": self.id}


class ComponentFormatter(logging.Formatter):
    """`scope` is asked for each line; `attributes` names further standard attributes that are to be told."""

    def __init__(
        self,
        component: Component,
        scope: Callable[[], Scope] | None = None,
        attributes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._component = component
        self._scope = scope
        self._attributes = tuple(attributes)

    def format(self, record: logging.LogRecord) -> str:
        lines: str | None = record.__dict__.get("lines")
        return self._line(record) if lines is None else lines

    def _line(self, record: logging.LogRecord) -> str:
        return super().format(record)


class TextFormatter(ComponentFormatter):
    """Attributes stand before `--`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without traceback, which the base class appends."""
        request_id = shown_id(self._scope().request_id) if self._scope is not None else ""
        extra = "".join(f"{getattr(record, name, '')} " for name in self._attributes)
        scope = f"{request_id} " if request_id else ""
        time = self.formatTime(record)
        return f"{record.levelname} {time} {self._component.origin} {scope}{extra}-- {record.message}"

    def usesTime(self) -> bool:
        return True


class JsonFormatter(ComponentFormatter):
    """Whatever the user's call has as `extra` stands beside our own fields, which win where names collide."""

    def _line(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            key: value
            for key, value in record.__dict__.items()
            if key not in STANDARD_ATTRIBUTES and key not in _CONTROL
        }
        found["levelname"] = record.levelname
        found["asctime"] = self.formatTime(record)
        found.update(self._component.json_fields())
        if self._scope is not None:
            found.update(scope_fields(self._scope()))
        found["message"] = record.getMessage()
        found["filename"] = record.filename = record.__dict__.get("filename", "")
        found["lineno"] = record.lineno
        found["process"] = record.process
        found["timestamp_ns"] = int(record.created * 1e9)
        for name in self._attributes:
            found[name] = getattr(record, name, None)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            found["exc_text"] = record.exc_text
        if record.stack_info:
            found["stack_info"] = self.formatStack(record.stack_info)
        return encode(found)


def scope_fields(scope: Scope) -> dict[str, str]:
    """What JSON says of the request; nothing outside of one."""
    if not scope.request_id:
        return {}
    found = {"request_id": shown_id(scope.request_id), "route": scope.route, "application": scope.app_name}
    if trace := trace_id(scope.traceparent):
        found["trace_id"] = trace
    return found


def shown_id(request_id: str) -> str:
    """A request id as a line has it: clients choose it, and must not forge lines, columns or colours of a terminal."""
    if len(request_id) <= MAX_ID and request_id.isprintable() and " " not in request_id:
        return request_id
    return "".join(one if one.isprintable() and one != " " else "_" for one in request_id[:MAX_ID])


def trace_id(traceparent: str) -> str:
    """The second field of a W3C `traceparent`; "" of anything else."""
    return traceparent[3:35] if len(traceparent) >= 55 and traceparent[2] == traceparent[35] == "-" else ""


def encode(value: dict[str, Any]) -> str:
    """One line of JSON; a value that JSON does not have becomes its text, and what fails to tell it, its type."""
    try:
        return msgspec.json.encode(value, enc_hook=_text).decode()
    except Exception:  # odd keys, lone surrogates, cycles: a log line must come out whatever it holds
        return json.dumps({str(key): item if _is_plain(item) else _text(item) for key, item in value.items()})


def stamp(wall_s: float) -> str:
    """Local time to the second, as TEXT and `asctime` have it before the comma."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_s))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # user code
        return f"<{type(value).__name__}>"
