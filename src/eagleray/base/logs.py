"""Component logging: one rotating file per component, in the format that its logging configuration names.

Our own loggers live under `eagleray`; `ray.serve` is the name that user code logs to. Neither propagates, so a user's
root logger keeps its own handlers. Nothing here runs per request unless somebody logs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import Any

from eagleray.base.access_log import BURST, AccessLog, FullAccessLog, JsonAccessLog, TextAccessLog
from eagleray.base.log_formats import Component, ComponentFormatter, JsonFormatter, Scope, TextFormatter
from eagleray.base.secrets import hide_text
from eagleray.base.settings import Settings

__all__ = ["Component", "LogOptions", "open_access_log", "reset", "setup"]

LOGGER_NAMES = ("eagleray", "ray.serve")
"""Roots of the loggers that `setup` and `reset` own."""


@dataclass(frozen=True)
class LogOptions:
    """What a `LoggingConfig` says, or, where there is none, the environment."""

    encoding: str = "TEXT"
    level: str = "INFO"
    logs_dir: str = ""
    access_log: bool = True
    attributes: tuple[str, ...] = ()
    client_address: bool = False
    burst: int = BURST
    max_bytes: int = 64 * 2**20
    backups: int = 5

    @classmethod
    def read(cls, config: Mapping[str, Any], settings: Settings | None = None) -> LogOptions:
        """`config` is a LoggingConfig as JSON, or empty. ConfigError when the environment cannot be read."""
        settings = settings or Settings.from_env()
        return cls(
            encoding=str(config.get("encoding") or settings.log_encoding).upper(),
            level=str(config.get("log_level") or settings.log_level),
            logs_dir=str(config.get("logs_dir") or ""),
            access_log=bool(config.get("enable_access_log", True)),
            attributes=tuple(config.get("additional_log_standard_attrs") or ()),
            client_address=settings.log_client_address,
            burst=max(settings.log_buffer_lines, 1),
            max_bytes=settings.log_rotate_bytes,
            backups=settings.log_backups,
        )

    @property
    def writes_access_log(self) -> bool:
        """Whether a line of level INFO about each request would be seen."""
        levels = logging.getLevelNamesMapping()
        return self.access_log and levels.get(self.level, logging.INFO) <= logging.INFO


class ComponentFile(RotatingFileHandler):
    """A rotating file that standard output and error of this process go to as well, so `print` ends up beside it.

    Without the second part, fds 1 and 2 would keep writing to the renamed file after a rotation.
    """

    def __init__(self, path: str, options: LogOptions, *, owns_stdio: bool) -> None:
        super().__init__(path, maxBytes=options.max_bytes, backupCount=options.backups, encoding="utf-8")
        self._owns_stdio = owns_stdio
        self._adopt_stdio()

    def _open(self) -> Any:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(fd, "a", encoding=self.encoding, errors="backslashreplace")

    def doRollover(self) -> None:
        super().doRollover()
        self._adopt_stdio()

    def write_lines(self, text: str) -> None:
        """Writes whole lines as they are, past what a record goes through. As with one, a failure costs only them."""
        data = text.encode("utf-8", "backslashreplace")
        self.acquire()
        try:
            if self.stream is None:
                self.stream = self._open()
            if 0 < self.maxBytes <= os.fstat(self.stream.fileno()).st_size + len(data):
                self.doRollover()
            while data:
                data = data[os.write(self.stream.fileno(), data) :]
        except OSError:  # the disk is full
            self.handleError(
                logging.LogRecord("eagleray.access", logging.INFO, "", 0, text[:200], None, None)
            )
        finally:
            self.release()

    def _adopt_stdio(self) -> None:
        if self._owns_stdio and self.stream is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(self.stream.fileno(), 1)
            os.dup2(self.stream.fileno(), 2)


def setup(
    component: Component,
    options: LogOptions | None = None,
    *,
    path: str = "",
    scope: Callable[[], Scope] | None = None,
    owns_stdio: bool = False,
) -> None:
    """Sends this process's log lines to the file `path`, or to standard error when it is empty.

    May be called again, for example when a deployment's logging_config changes. `owns_stdio` is for children of node,
    whose standard output and error are already the file at `path`. Raises OSError when there can be no such file;
    nothing has changed then.
    """
    options = options or LogOptions.read({})
    handler: logging.Handler
    handler = ComponentFile(path, options, owns_stdio=owns_stdio) if path else logging.StreamHandler()
    _dress(handler, component, options, scope)
    reset()
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(options.level)
        logger.propagate = False


def adjust(component: Component, options: LogOptions) -> None:
    """Writes to the same file as `options` say from now on."""
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.setLevel(options.level)
        for handler in logger.handlers:
            if isinstance(handler.formatter, ComponentFormatter):
                _dress(handler, component, options, None)


def _dress(
    handler: logging.Handler, component: Component, options: LogOptions, scope: Callable[[], Scope] | None
) -> None:
    form = JsonFormatter if options.encoding == "JSON" else TextFormatter
    handler.setFormatter(form(component, scope, options.attributes))
    if component.name == "controller":  # it tells what user code elsewhere has raised
        handler.addFilter(_without_secrets)
    handler.removeFilter(_is_no_access_line)
    if not options.access_log:
        handler.addFilter(_is_no_access_line)


def open_access_log(component: Component, options: LogOptions) -> AccessLog | None:
    """The access log of this process, which writes where `setup` has said last; None when nobody would see it."""
    if not options.writes_access_log:
        return None
    is_json = options.encoding == "JSON"
    if options.client_address or options.attributes:
        return FullAccessLog(
            _write_lines,
            component,
            options.burst,
            is_json=is_json,
            client_address=options.client_address,
            attributes=options.attributes,
        )
    return (JsonAccessLog if is_json else TextAccessLog)(_write_lines, component, options.burst)


def reset() -> None:
    """Takes away and closes what `setup` has installed, as a forked child must: its node's component is not its own."""
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


def _write_lines(text: str) -> None:
    """Whole lines that are formatted already, to our own handler alone."""
    for handler in logging.getLogger("eagleray").handlers:
        if isinstance(handler, ComponentFile):
            handler.write_lines(text)
        elif isinstance(handler.formatter, ComponentFormatter):
            record = logging.LogRecord("eagleray.access", logging.INFO, "", 0, "", None, None)
            record.lines = text[:-1]
            handler.handle(record)


def _without_secrets(record: logging.LogRecord) -> bool:
    """Takes passwords of URLs and the like out of the record."""
    record.msg, record.args = hide_text(record.getMessage()), None
    if record.exc_info and not record.exc_text:
        record.exc_text = hide_text(_PLAIN.formatException(record.exc_info))
    return True


_PLAIN = logging.Formatter()


def _is_no_access_line(record: logging.LogRecord) -> bool:
    """User code marks access lines of its own so (`extra={"serve_access_log": True}`)."""
    return not getattr(record, "serve_access_log", False) or hasattr(record, "lines")
