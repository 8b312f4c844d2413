"""What user code and tests of the compatibility scripts share across processes: a journal and gates, both files.

User code runs in replicas, the test in the driver, all on one machine. Nothing here knows about Serve.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.waiting import wait_until


class Journal:
    """Lines that any process appends and the test reads."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def write(self, line: str) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)

    def lines(self) -> list[str]:
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []

    def count(self, line: str) -> int:
        return self.lines().count(line)

    def wait_for(self, line: str, count: int = 1) -> None:
        wait_until(lambda: self.count(line) >= count, f"{count} x {line!r} in the journal")


class Gate:
    """User code waits here until the test opens it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        Path(self.path).touch()

    def is_open(self) -> bool:
        return os.path.exists(self.path)

    async def passed(self) -> None:
        """For async user code."""
        while not self.is_open():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)

    def passed_sync(self) -> None:
        """For sync user code; gives up after a while, so that no thread is left behind for ever."""
        wait_until(self.is_open, "the gate")
