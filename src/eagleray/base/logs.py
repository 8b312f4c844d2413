"""Component logging: one rotating file per component, in the text format that Ray Serve's users know.

`LEVEL YYYY-mm-dd HH:MM:SS,mmm <component> <id> [<request_id> ]-- <message>`. Our own loggers live under `eagleray`;
`ray.serve` is the name that user code logs to. Neither propagates, so a user's root logger keeps its own handlers.

Nothing here runs per request unless somebody logs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from logging.handlers import RotatingFileHandler

LOGGER_NAMES = ("eagleray", "ray.serve")
"""Roots of the loggers that `setup` and `reset` own."""

MAX_FILE_BYTES = 64 * 2**20
"""A log file is rotated at this size; with `BACKUPS` that bounds a component to 384 MiB of disk."""

BACKUPS = 5


class TextFormatter(logging.Formatter):
    """The TEXT format. `request_id` is asked for each line and returns "" outside of a request.

    `attributes` names further standard attributes of a log record that stand before `--`.
    """

    def __init__(
        self,
        component: str,
        component_id: str,
        request_id: Callable[[], str] | None = None,
        attributes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._origin = f"{component} {component_id}"
        self._request_id = request_id
        self._attributes = tuple(attributes)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without traceback, which the base class appends."""
        request_id = self._request_id() if self._request_id is not None else ""
        extra = "".join(f"{getattr(record, name, '')} " for name in self._attributes)
        scope = f"{request_id} " if request_id else ""
        time = self.formatTime(record)
        return f"{record.levelname} {time} {self._origin} {scope}{extra}-- {record.message}"

    def usesTime(self) -> bool:
        return True


class ComponentFile(RotatingFileHandler):
    """A rotating file that standard output and error of this process go to as well, so `print` ends up beside it.

    Without the second part, fds 1 and 2 would keep writing to the renamed file after a rotation.
    """

    def __init__(self, path: str, *, owns_stdio: bool) -> None:
        super().__init__(path, maxBytes=MAX_FILE_BYTES, backupCount=BACKUPS, encoding="utf-8")
        self._owns_stdio = owns_stdio
        self._adopt_stdio()

    def doRollover(self) -> None:
        super().doRollover()
        self._adopt_stdio()

    def _adopt_stdio(self) -> None:
        if self._owns_stdio and self.stream is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(self.stream.fileno(), 1)
            os.dup2(self.stream.fileno(), 2)


def setup(
    component: str,
    component_id: str,
    *,
    path: str = "",
    level: str = "INFO",
    request_id: Callable[[], str] | None = None,
    attributes: Sequence[str] = (),
    owns_stdio: bool = False,
) -> None:
    """Sends this process's log lines to the file `path`, or to standard error when it is empty.

    May be called again, for example when a deployment's logging_config changes. `owns_stdio` is for children of node,
    whose standard output and error are already the file at `path`.
    """
    reset()
    handler: logging.Handler
    handler = ComponentFile(path, owns_stdio=owns_stdio) if path else logging.StreamHandler()
    handler.setFormatter(TextFormatter(component, component_id, request_id, attributes))
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


def reset() -> None:
    """Takes away and closes what `setup` has installed, as a forked child must: its node's component is not its own."""
    for name in LOGGER_NAMES:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
