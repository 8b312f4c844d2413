"""A real replica worker on a Unix socket in this process, and a client that calls it as routers do."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from eagleray.base import logs
from eagleray.replica.worker import Worker
from eagleray.rpc.client import Client
from eagleray.rpc.unix import calls_path
from eagleray.serve import context
from eagleray.wire import codec
from eagleray.wire.control import Drain, Empty, Ready, ReplicaLaunch
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, Headers, HttpHead, ReplyHead
from eagleray.wire.streams import CallHandler, ClientStream


class Call(CallHandler):
    """Collects what a call brings. `credit=False`: a reader that does not read."""

    def __init__(self, credit: bool = True) -> None:
        self.head = ReplyHead()
        self.chunks: list[bytes] = []
        self.error: ErrorHead | None = None
        self.error_body = b""
        self.credit = credit
        self.changed = asyncio.Event()
        self.accepted = asyncio.Event()
        self.done = asyncio.Event()
        self.stream: ClientStream | None = None
        self.answers = 0

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.head = head
        self.on_data(body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        if chunk:
            self.chunks.append(chunk)
        if end:
            self._end()
        elif self.credit and self.stream is not None:
            self.stream.consumed(len(chunk))
        self.changed.set()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        self.error = head
        self.error_body = body
        self._end()

    def on_accepted(self) -> None:
        self.accepted.set()

    def _end(self) -> None:
        self.answers += 1
        self.done.set()
        self.changed.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def value(self) -> Any:
        """The result of a handle call; raises the user's exception, or AssertionError for another failure."""
        if self.error is not None:
            assert self.error.code == "user", self.error
            raise codec.load_error(self.error_body)
        return codec.load_value(self.body)

    def items(self) -> list[Any]:
        return [codec.load_value(chunk) for chunk in self.chunks]


async def until(condition: Callable[[], object]) -> None:
    """Turns the loop until `condition()` holds, for at most 10 s: for states that have no event of their own."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


class Replica:
    """A running worker, a connection for calls to it, and the controller's connection."""

    def __init__(
        self, worker: Worker, control: Client, client: Client, life: asyncio.Task[None], address: str
    ) -> None:
        self.worker = worker
        self.control = control
        self.client = client
        self.life = life
        self.address = address
        self.room = asyncio.Event()
        self.ready = Ready()

    def python(
        self, method: str = "", *args: Any, stream: bool = False, credit: bool = True, **kwargs: Any
    ) -> Call:
        head = CallHead(CallKind.PYTHON, method, request_id="r1", app="app", stream=stream)
        call = Call(credit)
        call.stream = self.client.call(head, codec.dump_call(args, kwargs), handler=call)
        return call

    async def value(self, method: str = "", *args: Any, **kwargs: Any) -> Any:
        call = self.python(method, *args, **kwargs)
        await call.done.wait()
        return call.value()

    def http(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Headers | None = None,
        query: bytes = b"",
        end: bool = True,
        credit: bool = True,
        client: Client | None = None,
    ) -> Call:
        http = HttpHead(
            method, path, path.encode(), query, headers or [(b"host", b"test")], client=("127.0.0.1", 1234)
        )
        head = CallHead(CallKind.HTTP, request_id="r1", app="app", route="/", http=http)
        call = Call(credit)
        call.stream = (client or self.client).call(head, body, end=end, handler=call)
        return call

    async def get(self, path: str = "/", **kwargs: Any) -> Call:
        call = self.http(path, **kwargs)
        await call.done.wait()
        return call

    async def drain(self, timeout_s: float = 5.0) -> None:
        await self.control.request("drain", Drain(timeout_s=timeout_s), Empty, timeout_s=10)

    @property
    def ongoing(self) -> int:
        return self.worker._slots.ongoing


@asynccontextmanager
async def replica(
    target: Callable[..., Any] | None, /, *args: Any, expect_error: bool = False, **launch: Any
) -> AsyncIterator[Replica]:
    """A ready replica of `target(*args)`; ends by being cancelled, as by SIGTERM, unless it has drained."""
    directory = tempfile.mkdtemp(prefix="er-")
    path = f"{directory}/r.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    if target is not None:
        launch["code"] = codec.dump_code(target)
    if args:
        launch["init"] = codec.dump_code((args, {}))
    worker = Worker(
        ReplicaLaunch(
            app="app",
            deployment="D",
            replica_id="abcdefgh",
            version="1",
            controller_address="unix:/none",
            **launch,
        )
    )
    life = asyncio.get_running_loop().create_task(worker.run(listener), name="replica under test")
    control = await Client.connect(f"unix:{path}")
    try:
        ready = await control.request("ready", Empty(), Ready, timeout_s=10)
        assert bool(ready.error) == expect_error, ready.error
        address = f"unix:{calls_path(path)}"
        client = await Client.connect(address, on_room=lambda _: running.room.set())
        try:
            running = Replica(worker, control, client, life, address)
            running.ready = ready
            yield running
        finally:
            if not worker._drained.is_set():
                life.cancel()
            await asyncio.wait([life], timeout=10)
            assert life.done(), "the replica did not end"
            client.close()
            await client.wait_closed()
    finally:
        life.cancel()
        await asyncio.wait([life], timeout=10)
        control.close()
        await control.wait_closed()
        context.install(None, None)
        logs.reset()
        shutil.rmtree(directory)
