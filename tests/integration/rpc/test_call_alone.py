"""Calls that a foreign thread writes itself: they need nothing of the loop, and never disturb what the loop writes."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import uvloop
from tests.session_pair import HEAD, Heard

from eagleray.rpc.client import Client
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.messages import ReplyHead

T = TypeVar("T")
DEADLINE_S = 20.0


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.loop = factory()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(DEADLINE_S)

    def block(self) -> Callable[[], None]:
        """Keeps the loop from doing anything until the returned function is called."""
        reached, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            reached.set()
            go_on.wait(DEADLINE_S)

        self.loop.call_soon_threadsafe(hold)
        assert reached.wait(DEADLINE_S)
        return go_on.set

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


class Ended(Heard):
    """A call that another thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.done = threading.Event()

    def opened(self, stream: object) -> None:
        self.events.append("opened")

    def _take(self, body: bytes, end: bool) -> None:
        super()._take(body, end)
        if end:
            self.done.set()

    def on_error(self, head: object, body: bytes) -> None:
        super().on_error(head, body)  # type: ignore[arg-type]
        self.done.set()


class Joined:
    """A server and a shared client of it, each on the loop of its own thread."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop], sock: socket.socket) -> None:
        self.caller = LoopThread(factory)
        self.callee = LoopThread(factory)
        self.arrived = threading.Semaphore(0)
        self.incoming: list[Incoming] = []
        self.echo = False
        self.server = self.callee.call(lambda: Server(self._on_call))
        asyncio.run_coroutine_threadsafe(self.server.start(sock), self.callee.loop).result(DEADLINE_S)
        connecting = Client.connect(f"unix:{sock.getsockname()}", greeted=True, shared=True)
        self.client = asyncio.run_coroutine_threadsafe(connecting, self.caller.loop).result(DEADLINE_S)

    def _on_call(self, incoming: Incoming) -> None:
        if self.echo:
            incoming.reply(ReplyHead(0), incoming.body)
            return
        self.incoming.append(incoming)
        self.arrived.release()

    def next(self) -> Incoming:
        assert self.arrived.acquire(timeout=DEADLINE_S)
        return self.incoming.pop(0)

    def answer(self, incoming: Incoming) -> None:
        self.callee.call(lambda: incoming.reply(ReplyHead(0), incoming.body))

    def call(self, body: bytes) -> tuple[Ended, bool]:
        heard = Ended()
        return heard, self.client.call_alone(HEAD, body, heard, heard.opened)

    def close(self) -> None:
        self.caller.call(self.client.close)
        asyncio.run_coroutine_threadsafe(self.client.wait_closed(), self.caller.loop).result(DEADLINE_S)
        asyncio.run_coroutine_threadsafe(self.server.close(), self.callee.loop).result(DEADLINE_S)
        self.caller.close()
        self.callee.close()


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def joined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path_factory.mktemp("s") / "s"))
    sock.listen()
    joined = Joined(request.param, sock)
    yield joined
    joined.close()


def test_the_callee_has_the_call_while_the_callers_loop_is_blocked(joined: Joined) -> None:
    go_on = joined.caller.block()
    heard, sent = joined.call(b"body")
    assert sent and heard.events == ["opened"]
    incoming = joined.next()
    assert incoming.body == b"body"
    joined.answer(incoming)
    go_on()
    assert heard.done.wait(DEADLINE_S)
    assert heard.body == b"body" and heard.terminal == 1


def test_it_is_left_to_the_loop_while_another_call_is_open(joined: Joined) -> None:
    first, sent = joined.call(b"1")
    assert sent
    incoming = joined.next()
    second, sent = joined.call(b"2")
    assert not sent and second.events == []
    joined.answer(incoming)
    assert first.done.wait(DEADLINE_S)
    third, sent = joined.call(b"3")
    assert sent
    joined.answer(joined.next())
    assert third.done.wait(DEADLINE_S)


def test_big_calls_and_ended_connections_are_left_to_the_loop(joined: Joined) -> None:
    assert not joined.call(b"x" * 100_000)[1]
    joined.caller.call(joined.client.close)
    assert not joined.call(b"small")[1]


def test_a_connection_that_is_not_shared_leaves_all_to_the_loop(joined: Joined) -> None:
    connecting = Client.connect(joined.client.address, greeted=True)
    client = asyncio.run_coroutine_threadsafe(connecting, joined.caller.loop).result(DEADLINE_S)
    heard = Ended()
    assert not client.call_alone(HEAD, b"", heard, heard.opened)
    joined.caller.call(client.close)


def test_what_the_socket_does_not_take_the_loop_sends_later(joined: Joined) -> None:
    """The callee reads nothing, so the socket is full; every frame arrives whole and in order afterwards."""
    sock = joined.client._connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    go_on = joined.callee.block()
    heard = []
    for number in range(6):
        body = bytes([number]) * 15_000
        call, sent = joined.call(body)
        assert sent == (number == 0)
        if not sent:
            joined.caller.call(lambda call=call, body=body: joined.client.call(HEAD, body, handler=call))  # type: ignore[misc]
        heard.append(call)
    go_on()
    for number, call in enumerate(heard):
        incoming = joined.next()
        assert incoming.body == bytes([number]) * 15_000
        joined.answer(incoming)
        assert call.done.wait(DEADLINE_S)
        assert call.terminal == 1 and call.error is None


def test_an_interrupt_while_it_is_sent_ends_the_connection_and_so_the_call(joined: Joined) -> None:
    heard = Ended()

    def interrupted(_stream: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        joined.client.call_alone(HEAD, b"", heard, interrupted)
    assert heard.done.wait(DEADLINE_S)
    assert heard.error is not None and heard.error.code == "replica_died"
    asyncio.run_coroutine_threadsafe(joined.client.wait_closed(), joined.caller.loop).result(DEADLINE_S)


def test_many_threads_and_the_loop_call_at_once(joined: Joined) -> None:
    """Each call is answered once with its own body, whichever way it went."""
    joined.echo = True
    alone = []

    def calls(thread: int) -> None:
        for number in range(300):
            body = struct.pack("<II", thread, number)
            heard, sent = joined.call(body)
            alone.append(sent)
            if not sent:
                joined.caller.loop.call_soon_threadsafe(
                    lambda heard=heard, body=body: joined.client.call(HEAD, body, handler=heard)
                )
            assert heard.done.wait(DEADLINE_S)
            assert heard.body == body and heard.terminal == 1

    threads = [threading.Thread(target=calls, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alone) == 1200 and any(alone)
    assert not joined.client._session.streams
