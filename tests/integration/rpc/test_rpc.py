"""Clients and servers over real sockets, on both event loops; nothing is left open behind any of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import uvloop
from tests.session_pair import HEAD, Heard

from eagleray.base.errors import (
    ConfigError,
    EaglerayError,
    ProtocolError,
    ReplicaDiedError,
    RequestTimeoutError,
)
from eagleray.rpc import connection
from eagleray.rpc.client import CallHandler, Client
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.control import Ack, DeleteApplications, Empty, Message, Progress, decode, encode
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, ReplyHead

Run = Callable[[Awaitable[None]], None]
SECRET = b"s" * 32


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test's coroutine with a deadline; afterwards no fd and no task may be left."""
    runner = uvloop.run if request.param == "uvloop" else asyncio.run

    async def bounded(work: Awaitable[None]) -> None:
        asyncio.get_running_loop().set_debug(False)
        async with asyncio.timeout(30):
            await work
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def nothing() -> None:
        pass

    def go(work: Awaitable[None]) -> None:
        # libuv opens a pipe for signals once in a process and keeps it.
        runner(nothing())
        gc.collect()
        before = set(os.listdir("/proc/self/fd"))
        runner(bounded(work))
        gc.collect()
        assert set(os.listdir("/proc/self/fd")) == before

    yield go


@pytest.fixture
def directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="er-")
    yield path
    shutil.rmtree(path)


@dataclass
class Served:
    address: str
    server: Server
    incoming: list[Incoming]
    arrived: asyncio.Event

    async def next(self) -> Incoming:
        """The oldest call that no test has taken yet."""
        while not self.incoming:
            self.arrived.clear()
            await self.arrived.wait()
        return self.incoming.pop(0)


@contextlib.asynccontextmanager
async def serving(
    path: str, on_call: Callable[[Incoming], None] | None = None, *, tcp: bool = False
) -> AsyncIterator[Served]:
    incoming: list[Incoming] = []
    arrived = asyncio.Event()

    def keep(call: Incoming) -> None:
        incoming.append(call)
        arrived.set()

    if tcp:
        sock = socket.create_server(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
        server = Server(on_call or keep, secret=SECRET)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{path}/s")
        sock.listen()
        address = f"unix:{path}/s"
        server = Server(on_call or keep)
    await server.start(sock)
    try:
        yield Served(address, server, incoming, arrived)
    finally:
        await server.close()
        await server.close()


def echo(incoming: Incoming) -> None:
    incoming.collect(1 << 30, lambda body: incoming.reply(ReplyHead(1), body))


class Call(Heard):
    """A call that can be waited for."""

    def __init__(self, client: Client, body: bytes = b"", *, end: bool = True, consume: bool = True) -> None:
        super().__init__(consume=consume)
        self.changed = asyncio.Event()
        self.stream = client.call(HEAD, body, end=end, handler=self)

    def _take(self, body: bytes, end: bool) -> None:
        super()._take(body, end)
        self.changed.set()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        super().on_error(head, body)
        self.changed.set()

    async def ended(self) -> None:
        while not self.terminal:
            self.changed.clear()
            await self.changed.wait()


@pytest.mark.parametrize("tcp", [False, True])
def test_calls_of_every_size_come_back(run: Run, directory: str, tcp: bool) -> None:
    async def check() -> None:
        async with serving(directory, echo, tcp=tcp) as served:
            client = await Client.connect(served.address, secret=SECRET)
            bodies = [
                bytes([n % 251]) * size for n, size in enumerate((0, 1, 20_000, 262_144, 262_145, 12_000_000))
            ]
            calls = [Call(client, body) for body in bodies for _ in range(3)]
            for call in calls:
                await call.ended()
            assert [call.body for call in calls] == [body for body in bodies for _ in range(3)]
            client.close()
            await client.wait_closed()

    run(check())


def test_thousands_of_calls_share_one_connection(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory, echo) as served:
            client = await Client.connect(served.address)
            calls = [Call(client, str(n).encode()) for n in range(5000)]
            for call in calls:
                await call.ended()
            assert [call.body for call in calls] == [str(n).encode() for n in range(5000)]
            client.close()
            await client.wait_closed()

    run(check())


def test_a_connect_while_nobody_accepts_waits_in_the_backlog(run: Run, directory: str) -> None:
    async def check() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{directory}/s")
        sock.listen()
        client = await Client.connect(f"unix:{directory}/s")
        call = Call(client, b"early")
        server = Server(echo)
        await server.start(sock)
        await call.ended()
        assert call.body == b"early"
        client.close()
        await client.wait_closed()
        await server.close()

    run(check())
    assert os.path.exists(f"{directory}/s")


def test_a_greeted_connect_never_succeeds_where_nobody_accepts(run: Run, directory: str) -> None:
    async def check() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{directory}/s")
        sock.listen()
        dialling = asyncio.ensure_future(Client.connect(f"unix:{directory}/s", greeted=True))
        await asyncio.wait([dialling], timeout=0.05)
        assert not dialling.done()
        sock.close()  # as node does when it has reaped the replica
        with pytest.raises(ProtocolError):
            await dialling

    run(check())


def test_a_server_that_hangs_up_at_once_costs_nobody_a_descriptor(run: Run, directory: str) -> None:
    """A socket that is closed twice would take whatever has got its number meanwhile."""
    path = f"{directory}/a.sock"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(100)
            hanging_up = asyncio.create_task(asyncio.to_thread(hang_up, listener, 100))
            opened: list[int] = []
            for _ in range(100):
                with pytest.raises(ProtocolError, match="no connection"):
                    await Client.connect(f"unix:{path}", greeted=True)
                opened.append(os.open("/dev/null", os.O_RDONLY))
            await hanging_up
        gc.collect()
        for fd in opened:
            os.close(fd)

    run(main())


def hang_up(listener: socket.socket, times: int) -> None:
    for _ in range(times):
        listener.accept()[0].close()


def test_a_greeted_connect_returns_once_the_server_has_said_hello(run: Run, directory: str) -> None:
    async def check() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{directory}/s")
        sock.listen()
        dialling = asyncio.ensure_future(Client.connect(f"unix:{directory}/s", greeted=True))
        server = Server(echo)
        await server.start(sock)
        client = await dialling
        call = Call(client, b"hello")
        await call.ended()
        assert call.body == b"hello"
        client.close()
        await client.wait_closed()
        await server.close()

    run(check())


def test_the_death_of_the_server_ends_every_call_once(run: Run, directory: str) -> None:
    async def check() -> None:
        ended: list[Client] = []
        async with serving(directory) as served:
            client = await Client.connect(served.address, on_close=ended.append)
            calls = [Call(client), Call(client, b"u", end=False), Call(client, b"x" * 1_000_000)]
            for _ in calls:
                await served.next()
        await client.wait_closed()
        assert [call.terminal for call in calls] == [1, 1, 1] and ended == [client] and client.closed
        assert calls[0].error is not None and calls[0].error.code == "replica_died"
        late = Call(client)
        await late.ended()
        assert late.error is not None and late.error.code == "draining"
        client.close()
        assert ended == [client]

    run(check())


def test_close_ends_open_calls_before_it_returns_and_cancels_them_there(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            ended: list[Client] = []
            client = await Client.connect(served.address, on_close=ended.append)
            call = Call(client)
            incoming = await served.next()
            cancelled = asyncio.Event()
            incoming.on_cancel = cancelled.set
            client.close()
            client.close()
            assert call.terminal == 1 and ended == [client]
            await cancelled.wait()
            await client.wait_closed()
            assert not served.server.connections

    run(check())


def test_close_of_the_server_still_sends_what_was_answered(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            client = await Client.connect(served.address)
            call = Call(client)
            incoming = await served.next()
            incoming.reply(ReplyHead(), b"last words")
            await served.server.close()
            await call.ended()
            assert call.body == b"last words"
            await client.wait_closed()

    run(check())


def test_a_peer_that_reads_nothing_is_not_waited_for(
    run: Run, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_LINGER_S", 0.01)

    async def check() -> None:
        async with serving(directory) as served:
            client = await Client.connect(served.address)
            for _ in range(100):
                Call(client)
            incoming = [await served.next() for _ in range(100)]
            client._connection._transport.pause_reading()  # type: ignore[union-attr]
            for call in incoming:
                call.reply(ReplyHead(), b"x" * 200_000)
            await served.server.close()
            client.close()
            await client.wait_closed()

    run(check())


def test_a_stream_stops_at_a_slow_consumer_and_goes_on(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            client = await Client.connect(served.address)
            call = Call(client, consume=False)
            incoming = await served.next()
            sent = 0

            def push() -> None:
                nonlocal sent
                while incoming.writable and sent < 50:
                    sent += 1
                    incoming.send(b"m" * 100_000, end=sent == 50)

            incoming.on_writable = push
            push()
            await client.ping(5)
            assert sent < 15
            while not call.terminal:
                call.stream.consumed(100_000)  # type: ignore[union-attr]
                call.changed.clear()
                if not call.terminal:
                    await client.ping(5)
            assert call.messages == [b"m" * 100_000] * 50
            client.close()
            await client.wait_closed()

    run(check())


def test_a_limit_is_heard_by_clients_that_are_there_and_by_those_that_come(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            heard: list[int] = []
            early = await Client.connect(served.address, on_limit=heard.append, greeted=True)
            await early.ping(5)
            assert heard == []
            served.server.limit(64)
            await early.ping(5)
            assert heard == [64]
            late = await Client.connect(served.address, on_limit=heard.append)
            await late.ping(5)
            assert heard == [64, 64]
            for each in (early, late):
                each.close()
                await each.wait_closed()

    run(check())


def test_answers_that_are_held_leave_in_the_same_turn(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            client = await Client.connect(served.address)
            calls = [Call(client) for _ in range(3)]
            incoming = [await served.next() for _ in calls]
            (connection,) = served.server.connections
            served.server.hold()
            for each in incoming:
                each.reply(ReplyHead(), b"ok")
            assert len(connection.session.out) == 3
            await asyncio.sleep(0)
            assert not connection.session.out
            for call in calls:
                await call.ended()
            client.close()
            await client.wait_closed()

    run(check())


def test_room_and_goaway_are_heard(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory) as served:
            heard: list[str] = []
            client = await Client.connect(
                served.address,
                on_room=lambda _: heard.append("room"),
                on_goaway=lambda _: heard.append("goaway"),
            )
            call = Call(client)
            incoming = await served.next()
            incoming.fail(ErrorHead("rejected", "", 5))
            await call.ended()
            incoming.connection.room()
            served.server.goaway()
            await client.ping(5)
            assert heard == ["room", "goaway"]
            late = await Client.connect(served.address, on_goaway=lambda _: heard.append("late"))
            await late.ping(5)
            assert heard == ["room", "goaway", "late"]
            for each in (client, late):
                each.close()
                await each.wait_closed()

    run(check())


def test_ping_gives_up_on_a_server_that_does_not_answer(run: Run, directory: str) -> None:
    async def check() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"{directory}/s")
            sock.listen()
            client = await Client.connect(f"unix:{directory}/s")
            with pytest.raises(RequestTimeoutError):
                await client.ping(0.01)
            client.close()
            with pytest.raises(ConnectionError):
                await client.ping(1)
            await client.wait_closed()

    run(check())


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"\x00" * 12, bytes(range(7, 250, 3))]
)
def test_malformed_bytes_close_their_connection_and_nothing_else(
    run: Run, directory: str, data: bytes
) -> None:
    async def check() -> None:
        async with serving(directory, echo) as served:
            client = await Client.connect(served.address)
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, f"{directory}/s")
                await loop.sock_sendall(sock, data)
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(sock, 1000) == b""
            call = Call(client, b"fine")
            await call.ended()
            assert call.body == b"fine"
            client.close()
            await client.wait_closed()

    run(check())


def test_a_peer_that_says_nothing_is_dropped(
    run: Run, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT_S", 0.01)

    async def check() -> None:
        async with serving(directory) as served:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, f"{directory}/s")
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(sock, 1000) == b""
            assert served.server.connections == set()

    run(check())


def test_a_process_of_another_user_is_turned_away(
    run: Run, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with serving(directory, echo) as served:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
            with pytest.raises(ProtocolError, match="another user"):
                await Client.connect(served.address)
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, f"{directory}/s")
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(sock, 1000) == b""

    run(check())


def test_tcp_needs_the_same_secret_on_both_sides(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory, echo, tcp=True) as served:
            with pytest.raises(ConfigError):
                await Client.connect(served.address)
            with pytest.raises(ProtocolError, match="does not know the secret"):
                await Client.connect(served.address, secret=b"wrong")
        with pytest.raises(OSError):
            await Client.connect(served.address, secret=SECRET)
        with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(ConfigError):
            await Server(echo).start(sock)

    run(check())


def test_nobody_listening_is_an_os_error(run: Run, directory: str) -> None:
    async def check() -> None:
        heard: list[Client] = []
        with pytest.raises(OSError):
            await Client.connect(f"unix:{directory}/none", on_close=heard.append)
        with pytest.raises(ConfigError):
            await Client.connect("http://localhost")
        assert not heard

    run(check())


# ---- control methods ---------------------------------------------------------------------------------------------


async def ack(payload: bytes, incoming: Incoming) -> Message:
    return decode(payload, Ack)


async def count(payload: bytes, incoming: Incoming) -> None:
    incoming.reply(ReplyHead(), end=False)
    for number in range(3):
        incoming.send(encode(Progress(message=str(number) * 300_000)))
    incoming.send(b"", end=True)


async def refuse(payload: bytes, incoming: Incoming) -> Message:
    raise ConfigError("no such application")


async def crash(payload: bytes, incoming: Incoming) -> Message:
    raise ZeroDivisionError("oops")


async def mumble(payload: bytes, incoming: Incoming) -> Message:
    return Progress(message="\ud800")  # which UTF-8 cannot say


@contextlib.asynccontextmanager
async def controlled(
    path: str, **more: Callable[[bytes, Incoming], Awaitable[Message | None]]
) -> AsyncIterator[Client]:
    known = {"ack": ack, "count": count, "refuse": refuse, "crash": crash, "mumble": mumble}
    methods = ControlMethods({**known, **more})
    async with serving(path, methods.dispatch) as served:
        client = await Client.connect(served.address)
        try:
            yield client
        finally:
            await methods.close()
            await methods.close()
            client.close()
            await client.wait_closed()


def test_requests_are_answered_whatever_their_size(run: Run, directory: str) -> None:
    async def check() -> None:
        async with controlled(directory) as client:
            for size in (1, 300_000, 3_000_000):
                message = Ack(subscriber="x" * size, version=size)
                assert await client.request("ack", message, Ack, timeout_s=20) == message

    run(check())


def test_failures_of_control_methods_reach_the_caller(run: Run, directory: str) -> None:
    async def check() -> None:
        async with controlled(directory) as client:
            for method, kind, text in (
                ("refuse", ConfigError, "no such application"),
                ("crash", EaglerayError, "ZeroDivisionError: oops"),
                ("mumble", EaglerayError, "surrogates not allowed"),
                ("none", EaglerayError, "unknown method 'none'"),
                ("ack", EaglerayError, "malformed body"),
            ):
                with pytest.raises(kind, match=text):
                    await client.request(method, Empty(), Empty, timeout_s=20)
            with pytest.raises(ProtocolError, match="something else"):
                await client.request("ack", Ack(subscriber="s", version=1), DeleteApplications, timeout_s=20)

    run(check())


def test_a_subscription_yields_whole_messages_and_ends(run: Run, directory: str) -> None:
    async def check() -> None:
        async with controlled(directory) as client:
            got = [decode(chunk, Progress).message async for chunk in client.subscribe("count", Empty())]
            assert got == [str(number) * 300_000 for number in range(3)]
            with pytest.raises(ConfigError):
                async for _ in client.subscribe("refuse", Empty()):
                    pass

    run(check())


@pytest.mark.parametrize("way", ["timeout", "cancel", "close", "subscription"])
def test_giving_up_cancels_the_handler(run: Run, directory: str, way: str) -> None:
    async def check() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(payload: bytes, incoming: Incoming) -> None:
            incoming.send(b"begun")
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

        async with controlled(directory, hang=hang) as client:
            if way == "timeout":
                with pytest.raises(RequestTimeoutError):
                    await client.request("hang", Empty(), Empty, timeout_s=0.05)
            elif way == "cancel":
                task = asyncio.ensure_future(client.request("hang", Empty(), Empty, timeout_s=None))
                await started.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif way == "close":
                task = asyncio.ensure_future(client.request("hang", Empty(), Empty, timeout_s=None))
                await started.wait()
                client.close()
                with pytest.raises(ReplicaDiedError):
                    await task
            else:
                async with contextlib.aclosing(client.subscribe("hang", Empty())) as messages:
                    assert await anext(messages) == b"begun"
            await cancelled.wait()

    run(check())


def test_closing_the_methods_answers_those_that_run(run: Run, directory: str) -> None:
    async def check() -> None:
        started = asyncio.Event()

        async def hang(payload: bytes, incoming: Incoming) -> Message:
            started.set()
            await asyncio.get_running_loop().create_future()
            return Empty()

        methods = ControlMethods({"hang": hang})
        async with serving(directory, methods.dispatch) as served:
            client = await Client.connect(served.address)
            task = asyncio.ensure_future(client.request("hang", Empty(), Empty, timeout_s=None))
            await started.wait()
            await methods.close()
            with pytest.raises(EaglerayError, match="cancelled"):
                await task
            with pytest.raises(EaglerayError, match="shutting down"):
                await client.request("hang", Empty(), Empty, timeout_s=None)
            client.close()
            await client.wait_closed()

    run(check())


def test_a_handler_that_closes_its_own_connection_hears_the_end_once(run: Run, directory: str) -> None:
    async def check() -> None:
        async with serving(directory, echo) as served:
            client = await Client.connect(served.address)
            counted: list[str] = []

            class Closer(CallHandler):
                def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
                    counted.append("reply")
                    client.close()

                def on_error(self, head: ErrorHead, body: bytes) -> None:
                    counted.append("error")

            for _ in range(3):
                client.call(CallHead(CallKind.PYTHON), handler=Closer())
            await client.wait_closed()
            assert counted == ["reply", "error", "error"]

    run(check())
