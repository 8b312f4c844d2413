"""A real Redis on a Unix socket of its own, for the length of a block."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.debian import redis_server
from tests.waiting import wait_until


class RedisProcess:
    """`url` stays the same over a restart; what was written stays, too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(redis_server(), "--port", "0", "--unixsocket", str(self._socket)),
                *("--dir", str(self._directory), "--appendonly", "yes", "--appendfsync", "always"),
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._socket.exists, "Redis's socket")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket.unlink(missing_ok=True)


@contextmanager
def running_redis() -> Iterator[RedisProcess]:
    with tempfile.TemporaryDirectory(prefix="er-redis-") as directory:
        server = RedisProcess(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()
