"""A proxy without processes: HTTP listener, router and an rpc server that plays the replica, all on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

from eagleray.base.access_log import TextAccessLog
from eagleray.base.log_formats import Component
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.http.listen import Listener
from eagleray.proxy.server import ProxyServer
from eagleray.routing import DeploymentEntry, ReplicaEntry, Route, Router, RoutingTable
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.messages import ReplyHead

DEADLINE_S = 10.0
KEY = "default#D"

TEXT = [(b"content-type", b"text/plain")]


def ok(incoming: Incoming) -> None:
    """A replica that answers 200 `ok`."""
    incoming.reply(ReplyHead(0, 200, TEXT), b"ok")


class Stack:
    """What `stack()` has started."""

    def __init__(self, on_call: Callable[[Incoming], None], options: dict[str, Any]) -> None:
        self.calls: list[Incoming] = []
        self.lines: list[str] = []
        self.on_call = on_call
        self.directory = tempfile.mkdtemp(prefix="er-")
        self.replica = Server(self._call)
        self.router = Router(eager_ingress=True)
        limits = options.pop("limits", None)
        self.connections = Connections(HttpLimits(**limits) if limits else None)
        self.access = TextAccessLog(self.lines.append, Component("proxy", "test"))
        self.server = ProxyServer(self.router, self.connections, access_log=self.access, **options)
        self.http = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self.http.getsockname()
        self.listener = Listener(self.http, self.server.connection)
        self.connections.on_discard = self.listener.on_descriptor_freed

    def _call(self, incoming: Incoming) -> None:
        self.calls.append(incoming)
        self.on_call(incoming)

    def table(
        self, *prefixes: str, max_ongoing: int = 100, version: int = 1, name: str = "r1", **entry: Any
    ) -> RoutingTable:
        """One deployment with the one replica, under each of `prefixes`."""
        replica = ReplicaEntry(name, f"unix:{self.directory}/r.sock", max_ongoing)
        deployment = DeploymentEntry("default", "D", (replica,), **entry)
        routes = tuple(Route(prefix, "default", KEY) for prefix in prefixes)
        return RoutingTable(version, routes, {KEY: deployment}, {"default": KEY}, True)

    async def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.path.join(self.directory, "r.sock"))
        listener.listen(64)
        await self.replica.start(listener)
        self.router.update(self.table("/"))
        await self.router.settled()
        self.listener.start()

    async def close(self) -> None:
        await self.listener.close()
        self.connections.close()
        await self.router.close()
        await self.replica.close()
        self.access.flush()
        self.http.close()
        shutil.rmtree(self.directory)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection(*self.address))

    def log(self) -> list[str]:
        """Messages of the access log so far."""
        self.access.flush()
        return [line.split(" -- ")[-1].rsplit(" ", 1)[0] for text in self.lines for line in text.splitlines()]


class Response:
    """A parsed answer; header names are lower case."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value


class Client:
    """A raw socket with just enough HTTP to read answers strictly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        lines = raw[:-4].decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.partition(": ") for line in lines[1:]]
        return int(status), [(name.lower(), value) for name, _, value in pairs]

    async def response(self, *, method: str = "GET") -> Response:
        """Reads one final answer whole."""
        status, headers = await self.head()
        fields = dict(headers)
        if method == "HEAD" or status in (100, 204, 304):
            body = b""
        elif "content-length" in fields:
            body = await asyncio.wait_for(self.reader.readexactly(int(fields["content-length"])), DEADLINE_S)
        elif fields.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        else:
            body = await self.rest()
        return Response(status, headers, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Chunks of a chunked body; an incomplete one raises IncompleteReadError."""
        while True:
            line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), DEADLINE_S)
            size = int(line, 16)
            chunk = await asyncio.wait_for(self.reader.readexactly(size + 2), DEADLINE_S)
            assert chunk[-2:] == b"\r\n"
            if not size:
                return
            yield chunk[:-2]

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE_S)

    async def get(self, path: str = "/", *, method: str = "GET", headers: str = "") -> Response:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n".encode())
        return await self.response(method=method)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def stack(on_call: Callable[[Incoming], None] = ok, **options: Any) -> AsyncIterator[Stack]:
    """A running stack; `options` go to ProxyServer, `limits` (a dict) to HttpLimits."""
    running = Stack(on_call, options)
    await running.start()
    try:
        yield running
    finally:
        await running.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until the condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (what it looks at has no event)
            await asyncio.sleep(0)
