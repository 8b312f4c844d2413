"""The audit log: one JSON line for each attempt to change something, with its outcome. Never a token or a body.

The file is opened for each line, as mutations are rare, so that it may be moved away at any time.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

import msgspec

from eagleray.admin.tokens import Role
from eagleray.base.clock import wall_time_s

logger = logging.getLogger("eagleray.admin")

MAX_FILE_BYTES = 16 * 2**20
"""A file of this size is renamed to `.1`, which takes the place of the former one."""


class Audit:
    """Writes to `path`, mode 0600. A disk that takes no line is reported in the component's log and stops nothing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def record(
        self, role: Role, peer: tuple[str, int] | None, method: str, path: str, status: int, what: str
    ) -> None:
        """`what` is a short description of the wish, or why it was refused."""
        line = msgspec.json.encode(
            {
                "time": datetime.fromtimestamp(wall_time_s(), UTC).isoformat(timespec="milliseconds"),
                "role": role.name.lower(),
                "peer": f"{peer[0]}:{peer[1]}" if peer else "",
                "method": method,
                "path": path[:1000],
                "status": status,
                "what": what[:1000],
            }
        )
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line + b"\n")
                is_full = os.fstat(fd).st_size > MAX_FILE_BYTES
            finally:
                os.close(fd)
            if is_full:
                os.replace(self._path, f"{self._path}.1")
        except OSError as error:
            logger.error("The audit log %s cannot be written: %s", self._path, error)
