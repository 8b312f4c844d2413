"""Speed of the rpc layer alone: two processes, one Unix socket, unary calls and big bodies.

    python bench/micro_rpc.py [--loop uvloop|asyncio] [--seconds 3] [--body 100]

Prints one JSON object: calls/s with 64 outstanding, p50 and p99 of one outstanding call in microseconds, and MB/s of
10 MB replies. The calling process does nothing else, nor does the called one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from eagleray.rpc.client import CallHandler, Client, ClientStream
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.messages import CallHead, CallKind, ReplyHead

BIG = b"x" * 10_000_000
Runner = Callable[[Coroutine[Any, Any, None]], None]


def answer(incoming: Incoming) -> None:
    if incoming.head.method == "big":
        incoming.reply(ReplyHead(1), BIG)
    else:
        incoming.reply(ReplyHead(1), incoming.body)


class Loop(CallHandler):
    """Makes a new call whenever one has been answered, until the time is up."""

    def __init__(self, client: Client, body: bytes, deadline: float, done: asyncio.Future[None]) -> None:
        self.client, self.body, self.deadline, self.done = client, body, deadline, done
        self.count = 0
        self.open = 0
        self.durations: list[float] = []
        self.sent = 0.0

    def send(self) -> None:
        self.open += 1
        self.sent = time.perf_counter()
        self.client.call(CallHead(CallKind.PYTHON, "__call__", "0123456789abcdef"), self.body, handler=self)

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        now = time.perf_counter()
        self.durations.append(now - self.sent)
        self.count += 1
        self.open -= 1
        if now < self.deadline:
            self.send()
        elif not self.open:
            self.done.set_result(None)


class Big(CallHandler):
    def __init__(self, done: asyncio.Future[int]) -> None:
        self.done = done
        self.parts: list[bytes] = []
        self.stream: ClientStream | None = None

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.on_data(body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        self.parts.append(chunk)
        if end:
            self.done.set_result(len(b"".join(self.parts)))
        else:
            assert self.stream is not None
            self.stream.consumed(len(chunk))


async def serve(sock: socket.socket) -> None:
    server = Server(answer)
    await server.start(sock)
    await asyncio.get_running_loop().create_future()


async def measure(path: str, seconds: float, body: bytes, result: dict[str, float]) -> None:
    loop = asyncio.get_running_loop()
    client = await Client.connect(f"unix:{path}")
    for outstanding in (1, 64):
        done: asyncio.Future[None] = loop.create_future()
        calls = Loop(client, body, time.perf_counter() + seconds, done)
        start = time.perf_counter()
        for _ in range(outstanding):
            calls.send()
        await done
        elapsed = time.perf_counter() - start
        if outstanding == 1:
            calls.durations.sort()
            result["p50_us"] = round(calls.durations[len(calls.durations) // 2] * 1e6, 1)
            result["p99_us"] = round(calls.durations[len(calls.durations) * 99 // 100] * 1e6, 1)
        else:
            result["calls_per_s"] = round(calls.count / elapsed)
    times = []
    for _ in range(20):
        size: asyncio.Future[int] = loop.create_future()
        big = Big(size)
        start = time.perf_counter()
        big.stream = client.call(CallHead(CallKind.PYTHON, "big"), handler=big)
        assert await size == len(BIG)
        times.append(time.perf_counter() - start)
    result["reply_10MB_ms"] = round(sorted(times)[len(times) // 2] * 1e3, 2)
    client.close()
    await client.wait_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--body", type=int, default=100)
    options = parser.parse_args()
    run: Runner = uvloop.run if options.loop == "uvloop" else asyncio.run
    with tempfile.TemporaryDirectory(prefix="er-") as directory:
        path = f"{directory}/s"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        child = os.fork()
        if not child:
            try:
                run(serve(sock))
            finally:
                os._exit(0)
        sock.close()
        result: dict[str, Any] = {"loop": options.loop, "body": options.body}
        try:
            run(measure(path, options.seconds, b"x" * options.body, result))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
