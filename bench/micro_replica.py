"""CPU that one noop HTTP call costs a replica: `python -m bench.micro_replica [outstanding] [calls]`.

The replica is a process of its own, driven over its Unix socket by an rpc client that keeps `outstanding` calls in
flight. What is counted is the replica's CPU time (user and system), so a slow client does not flatter it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import tempfile
import time

import uvloop

from eagleray.replica.worker import Worker
from eagleray.rpc.client import Client
from eagleray.wire import codec
from eagleray.wire.control import Empty, Ready, ReplicaLaunch
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, HttpHead, ReplyHead
from eagleray.wire.streams import CallHandler


class Noop:
    """The workload: three ways to answer `ok`."""

    async def __call__(self, request: object) -> bytes:
        return b"ok"

    async def method(self) -> bytes:
        return b"ok"

    def sync(self) -> bytes:
        return b"ok"


_HEADERS = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"wrk"), (b"x-request-id", b"r" * 36)]


def _head(kind: str) -> CallHead:
    if kind == "http":
        http = HttpHead("GET", "/", b"/", b"", _HEADERS, client=("127.0.0.1", 1), server=("127.0.0.1", 8000))
        return CallHead(CallKind.HTTP, request_id="r" * 36, app="default", route="/", http=http)
    return CallHead(
        CallKind.PYTHON, "method" if kind == "handle" else "sync", request_id="r" * 36, app="default"
    )


class Driver(CallHandler):
    """Sends the next call when one is answered."""

    def __init__(self, client: Client, kind: str, calls: int) -> None:
        self.client = client
        self.head = _head(kind)
        self.body = b"" if kind == "http" else codec.dump_call((), {})
        self.left = calls
        self.open = 0
        self.done = asyncio.Event()

    def send(self) -> None:
        self.left -= 1
        self.open += 1
        self.client.call(self.head, self.body, handler=self)

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.open -= 1
        if self.left > 0:
            self.send()
        elif not self.open:
            self.done.set()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        raise SystemExit(f"{head.code}: {head.message}")


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _drive(address: str, pid: int, outstanding: int, calls: int) -> None:
    client = await Client.connect(address)
    ready = await client.request("ready", Empty(), Ready, timeout_s=10)
    assert not ready.error, ready.error
    for kind in ("http", "handle", "sync"):
        for measured in (False, True):
            driver = Driver(client, kind, calls if measured else calls // 10)
            cpu, start = _cpu_s(pid), time.perf_counter()
            for _ in range(outstanding):
                driver.send()
            await driver.done.wait()
            if measured:
                wall = time.perf_counter() - start
                cost = (_cpu_s(pid) - cpu) / calls
                print(
                    f"{kind:7} {outstanding:4} outstanding: {cost * 1e6:6.1f} us CPU, {calls / wall:8.0f} calls/s"
                )
    client.close()


def main() -> None:
    outstanding = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    path = os.path.join(tempfile.mkdtemp(prefix="er-"), "r.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    pid = os.fork()
    if not pid:
        launch = ReplicaLaunch(
            app="default",
            deployment="Noop",
            replica_id="bench",
            version="1",
            target="bench.micro_replica:Noop",
            max_ongoing_requests=1000,
        )
        uvloop.run(Worker(launch).run(listener))
        os._exit(0)
    try:
        uvloop.run(_drive(f"unix:{path}", pid, outstanding, calls))
        print(f"driver: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s CPU")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    main()
