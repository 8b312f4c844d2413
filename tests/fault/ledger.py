"""An open-loop HTTP client that keeps a ledger: one line per request, whatever becomes of it.

Requests leave at a constant rate, whether or not earlier ones have been answered, so that a server that stalls is
seen as late answers and not as fewer questions. Connections are kept alive and reused; each carries one request at a
time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

HANG_S = 10.0
"""A request without an answer for this long hangs."""

CLOSED, HUNG, UNREACHABLE = 0, -1, -2
"""In place of a status: the connection was closed before an answer, there was none, or no connect succeeded."""


@dataclass(frozen=True)
class Line:
    """One request. Times are monotonic seconds."""

    id: str
    t_sent: float
    t_answered: float
    status: int
    body: str

    @property
    def failed(self) -> bool:
        return self.status != 200


class Ledger:
    """Sends to `host:port` from `running()` until its end, then waits for what is under way."""

    def __init__(
        self, host: str, port: int, path: str = "/", *, rate_per_s: float = 200.0, method: str = "POST"
    ) -> None:
        self._address = (host, port)
        self._line = f"{method} {path} HTTP/1.1\r\nContent-Length: 0"
        self._period_s = 1.0 / rate_per_s
        self._idle: list[_Connection] = []
        self._sent = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._answered = asyncio.Event()
        self.lines: list[Line] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        sender = asyncio.create_task(self._send_all(), name="ledger sender")
        try:
            yield
        finally:
            sender.cancel()
            await asyncio.wait({sender})
            if self._asking:
                await asyncio.wait(self._asking)
            for connection in self._idle:
                await connection.close()

    async def wait_answers(self, count: int) -> None:
        """Returns when `count` more requests have ended than now."""
        target = len(self.lines) + count
        while len(self.lines) < target:
            self._answered.clear()
            await self._answered.wait()

    # ---- what it tells ---------------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        return self._sent

    def failures(self) -> list[Line]:
        return [line for line in self.lines if line.failed]

    def unexplained(self, kills: Iterable[float], noticed_within_s: float = 0.25) -> list[Line]:
        """Failures that no kill explains: a kill explains what was under way then, or sent before it was noticed."""
        moments = list(kills)
        return [
            line
            for line in self.failures()
            if not any(line.t_sent <= at + noticed_within_s and line.t_answered >= at for at in moments)
        ]

    def bodies(self, since: float = 0.0) -> Counter[str]:
        """How often each body was answered to requests sent after `since`."""
        return Counter(line.body for line in self.lines if not line.failed and line.t_sent >= since)

    def check(self) -> None:
        """Exactly one line for each request, and none that hung."""
        assert len({line.id for line in self.lines}) == len(self.lines) == self._sent
        hung = [line for line in self.lines if line.status == HUNG]
        assert not hung, f"{len(hung)} requests hung, the first: {hung[0]}"

    # ---- how it works ----------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        start = time.monotonic()
        first = self._sent
        while True:
            due = first + int((time.monotonic() - start) / self._period_s) + 1
            while self._sent < due:
                task = asyncio.create_task(self._ask(f"ledger-{self._sent}"), name=f"request {self._sent}")
                self._sent += 1
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            await asyncio.sleep(max(0.0, start + (due - first) * self._period_s - time.monotonic()))

    async def _ask(self, request_id: str) -> None:
        t_sent = time.monotonic()
        body = ""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(HANG_S):
                connection = self._idle.pop() if self._idle else await _Connection.open(*self._address)
                status, body = await connection.ask(self._line, request_id)
        except TimeoutError:
            status = HUNG
        except (OSError, EOFError):
            status = UNREACHABLE if connection is None else CLOSED
        self.lines.append(Line(request_id, t_sent, time.monotonic(), status, body))
        self._answered.set()
        if connection is not None:
            if status > 0 and not connection.is_over:
                self._idle.append(connection)
            else:
                await connection.close()


class _Connection:
    """One keep-alive connection; reads Content-Length and chunked bodies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self.is_over = False

    @classmethod
    async def open(cls, host: str, port: int) -> _Connection:
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, f"{host}:{port}")

    async def ask(self, line: str, request_id: str) -> tuple[int, str]:
        head = f"{line}\r\nHost: {self._host}\r\nX-Request-Id: {request_id}\r\n\r\n"
        self._writer.write(head.encode())
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        assert headers.get("x-request-id", request_id) == request_id, "an answer to another request"
        self.is_over = headers.get("connection", "").lower() == "close"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, (await self._chunks()).decode()
        return status, (await self._reader.readexactly(int(headers.get("content-length", "0")))).decode()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return body

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other side was faster
            pass
