"""The queue length of one deployment over all routers of a machine: a shared file with one count for each router.

Each router writes only its own row and reads all of them, so nothing is locked and the controller is not asked. A row
belongs to a process; whoever finds the queue full looks whether the owners of the other counts still live, and clears
the rows of the dead. It is an exact count, not a reservation: a router adds itself first and looks then, so two that
come at once may both be refused the last place, but the limit is never passed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from hashlib import blake2b
from typing import Protocol

_ROWS = 4096
_FIELDS = 4
"""Of 4 bytes: process id, count, and the process's start time in two."""
_ROW_BYTES = 4 * _FIELDS


class Board(Protocol):
    """The count of one deployment, as a pool uses it."""

    def add(self, delta: int) -> None:
        """Changes the count of this router."""

    def total(self) -> int:
        """The count of all routers."""

    def clear_dead(self) -> None:
        """Forgets what processes that have died had counted."""

    def close(self) -> None:
        """Takes this router's count away."""


def board_path(directory: str, key: str) -> str:
    """The file of the deployment `key` in an instance's runtime directory."""
    return f"{directory}/queue-{blake2b(key.encode(), digest_size=10).hexdigest()}"


class QueueBoard:
    """This router's row in the file at `path`, which is made when it is missing. Raises OSError; `close` it."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _ROW_BYTES * (_ROWS + 1))
            self._map = mmap.mmap(fd, _ROW_BYTES * (_ROWS + 1))
            self._cells = memoryview(self._map).cast("i")
            # Claiming is the only thing that two processes must not do at once; a death lets go of the lock.
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._row = self._claim()
            fcntl.flock(fd, fcntl.LOCK_UN)  # the mapping keeps a duplicate of the descriptor
        finally:
            os.close(fd)
        self._count = self._row * _FIELDS + 1

    def _claim(self) -> int:
        """A free row, marked as ours. Row 0 says how many rows have ever been used."""
        cells = self._cells
        pid, start = os.getpid(), _start_time(os.getpid())
        for row in range(1, _ROWS + 1):
            at = row * _FIELDS
            if row > cells[0] or not self._is_alive(at):
                cells[0] = max(cells[0], row)
                cells[at : at + _FIELDS] = memoryview(
                    b"".join(part.to_bytes(4, "little", signed=True) for part in (pid, 0, *start))
                ).cast("i")
                return row
        raise OSError(f"more than {_ROWS} routers share a queue")

    def _is_alive(self, at: int) -> bool:
        pid = self._cells[at]
        return bool(pid) and _start_time(pid) == (self._cells[at + 2], self._cells[at + 3])

    def add(self, delta: int) -> None:
        self._cells[self._count] += delta

    def total(self) -> int:
        cells = self._cells
        return sum(cells[_FIELDS + 1 : (cells[0] + 1) * _FIELDS : _FIELDS])

    def clear_dead(self) -> None:
        cells = self._cells
        for row in range(1, cells[0] + 1):
            at = row * _FIELDS
            # A row that somebody claims at this moment has a count of 0 already, or his start time.
            if cells[at + 1] and not self._is_alive(at):
                cells[at + 1] = 0

    def close(self) -> None:
        if self._row:
            at = self._row * _FIELDS
            self._row = 0
            self._cells[at + 1] = 0
            self._cells[at] = 0
            self._cells.release()
            self._map.close()


def _start_time(pid: int) -> tuple[int, int]:
    """When a process was started, in ticks since boot, as two signed halves; (0, 0) when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0, 0
    return ticks & 0x7FFFFFFF, (ticks >> 31) & 0x7FFFFFFF
