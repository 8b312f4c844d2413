"""An open-loop HTTP client that keeps a ledger: one line per request, whatever becomes of it.

The client is that of `eagleray bench`: requests leave at a constant rate, whether or not earlier ones have been
answered, so that a server that stalls is seen as late answers and not as fewer questions. Each carries an id of its
own, and its answer has to carry the same.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eagleray.loadtest import ledger
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Message, Plan, Url

HANG_S = 10.0
"""A request without an answer for this long hangs."""

CLOSED, HUNG, UNREACHABLE = 0, -1, -2
"""In place of a status: the connection was closed before an answer, there was none, or no connect succeeded."""


_STATUSES = {"timeout": HUNG, "refused": UNREACHABLE, "unreachable": UNREACHABLE}
_CONNECTIONS = 10_000


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
    """Sends to `host:port` from `running()`, once, until its end; then waits for what is under way."""

    def __init__(
        self, host: str, port: int, path: str = "/", *, rate_per_s: float = 200.0, method: str = "POST"
    ) -> None:
        self._url = Url(host, port, path)
        self._method = method
        self._answered = asyncio.Event()
        self._strays: list[ledger.Line] = []
        self._load = Load(
            Plan(
                rate=rate_per_s,
                connections=_CONNECTIONS,
                duration_s=math.inf,
                warm_up_s=0.0,
                timeout_s=HANG_S,
            ),
            (host, port),
            self._request,
            on_line=self._note,
            keep_bodies=True,
        )
        self.lines: list[Line] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        load = asyncio.create_task(self._load.run(), name="ledger")
        await asyncio.sleep(0)  # it has begun
        try:
            yield
        finally:
            self._load.finish()
            await load

    async def wait_answers(self, count: int) -> None:
        """Returns when `count` more requests have ended than now."""
        target = len(self.lines) + count
        while len(self.lines) < target:
            self._answered.clear()
            await self._answered.wait()

    # ---- what it tells ---------------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        return self._load.asked

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
        assert len({line.id for line in self.lines}) == len(self.lines) == self.sent
        hung = [line for line in self.lines if line.status == HUNG]
        assert not self._strays, f"answers to other requests: {self._strays}"
        assert not hung, f"{len(hung)} requests hung, the first: {hung[0]}"

    # ---- how it works ----------------------------------------------------------------------------------------------

    def _request(self, number: int) -> bytes:
        return Message(self._method, [("X-Request-Id", f"ledger-{number}")]).encode(self._url)

    def _note(self, line: ledger.Line) -> None:
        found = f"ledger-{line.number}"
        if b"\r\nx-request-id: " in line.head and f"\r\nx-request-id: {found}\r\n".encode() not in line.head:
            self._strays.append(line)
        status = line.status if line.status else _STATUSES.get(line.error, CLOSED)
        self.lines.append(
            Line(found, line.t_sent or line.t_intended, line.t_ended, status, line.body.decode())
        )
        self._answered.set()
