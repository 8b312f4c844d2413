"""Open-loop HTTP load: requests leave at their own times, whatever happens to those before them.

Latency counts from the intended time, so a server that falls behind is charged for it (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

import uvloop

from bench.load import Request

_END_S = 15.0
"""Seconds after the last request in which answers may still come."""


@dataclass
class Outcome:
    """What became of the requests of one run: status (0: none came) and seconds since the intended time."""

    seconds: float
    answers: list[tuple[int, float]] = field(default_factory=list)

    def latencies(self, status: int = 200) -> list[float]:
        """Sorted, of the answers with that status."""
        return sorted(latency for answered, latency in self.answers if answered == status)

    def rate(self, within_s: float = float("inf")) -> float:
        """Good answers a second that took no longer than `within_s`."""
        return sum(status == 200 and latency <= within_s for status, latency in self.answers) / self.seconds

    def percentile_ms(self, percent: float, status: int = 200) -> float:
        found = self.latencies(status)
        return found[min(len(found) - 1, int(len(found) * percent / 100))] * 1000 if found else float("nan")


class _Connection(asyncio.Protocol):
    """Keep-alive, one request at a time; only answers with a content-length are understood."""

    def __init__(self, idle: deque[_Connection]) -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._done: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    async def ask(self, request: bytes) -> int:
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._done is None:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            self._received = b""
            done, self._done = self._done, None
            if b"connection: close" not in lower:
                self._idle.append(self)
            if not done.done():
                done.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self._done is not None and not self._done.done():
            self._done.set_result(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _run(port: int, request: Request, rate: float, seconds: float, seed: int) -> Outcome:
    loop = asyncio.get_running_loop()
    idle: deque[_Connection] = deque()
    every: list[_Connection] = []
    outcome = Outcome(seconds)
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: bench\r\n"
    if request.content_type:
        head += f"Content-Type: {request.content_type}\r\n"
    if request.body:
        head += f"Content-Length: {len(request.body)}\r\n"
    sent = head.encode() + b"\r\n" + request.body
    draw = random.Random(seed)
    running: set[asyncio.Task[None]] = set()

    async def ask(intended: float) -> None:
        try:
            if idle:
                connection = idle.pop()
            else:
                _, connection = await loop.create_connection(lambda: _Connection(idle), "127.0.0.1", port)
                every.append(connection)
            status = await connection.ask(sent)
        except OSError:
            status = 0
        outcome.answers.append((status, time.perf_counter() - intended))

    started = time.perf_counter()
    intended = started
    while intended < started + seconds:
        delay = intended - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        task = loop.create_task(ask(intended))
        running.add(task)
        task.add_done_callback(running.discard)
        intended += draw.expovariate(rate)
    if running:
        await asyncio.wait(running, timeout=_END_S)
    outcome.answers += [(0, float("inf"))] * len(running)
    for task in tuple(running):
        task.cancel()
    for connection in every:
        connection.close()
    return outcome


def run(port: int, request: Request, rate: float, seconds: float, seed: int = 1) -> Outcome:
    """Poisson arrivals of `rate` requests a second for `seconds`; the same seed gives the same arrivals."""
    return uvloop.run(_run(port, request, rate, seconds, seed))
