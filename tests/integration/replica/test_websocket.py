"""WebSockets in a real replica, over its calls' socket: how they begin, end, and what they leave behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.integration.replica.replica_process import Call, Replica, replica, until

from eagleray.base.errors import BackPressureError
from eagleray.serve.ingress import ingress
from eagleray.wire.messages import CallHead, CallKind, HttpHead
from eagleray.wire.websocket import RECORD_SIZE, pack_close, pack_record, unpack_close

EVENTS: list[str] = []


class App:
    """Says what it sees; the path tells what it does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError("no lifespan")
        await getattr(self, scope["path"].strip("/"))(receive, send)

    async def echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        EVENTS.append(f"{message['code']}")

    async def hold(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            EVENTS.append("cancelled")
            raise

    async def stubborn(self, receive: Any, send: Any) -> None:
        try:
            await self.hold(receive, send)
        except asyncio.CancelledError:
            return

    async def waits(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        try:
            EVENTS.append((await receive())["type"])
        except asyncio.CancelledError:
            EVENTS.append("cancelled before the accept")
            raise

    async def overload(self, receive: Any, send: Any) -> None:
        raise BackPressureError(3, 2, 429, 1.5)

    async def half(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})

    async def exits(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise SystemExit(3)

    async def closes_and_fails(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})
        raise ValueError("afterwards")

    async def refuses_and_fails(self, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})
        raise ValueError("afterwards")


@ingress(App())
class Served:
    pass


def plain(request: Any) -> str:
    return "plain"


def dial(it: Replica, path: str, deadline: float = 0.0) -> Call:
    http = HttpHead("GET", f"/{path}", f"/{path}".encode(), b"", [(b"host", b"test")])
    head = CallHead(CallKind.WEBSOCKET, request_id="r1", app="app", route="/", deadline=deadline, http=http)
    call = Call()
    call.stream = it.client.call(head, b"", end=False, handler=call)
    return call


async def open_socket(it: Replica, path: str, deadline: float = 0.0) -> Call:
    call = dial(it, path, deadline)
    await until(lambda: call.head.status or call.done.is_set())
    assert call.head.status == 101, call.error
    assert call.accepted.is_set(), "messages may be sent before the client hears of the 101"
    return call


@pytest.fixture(autouse=True)
def no_events() -> None:
    EVENTS.clear()


def served(main: Any, target: Any = Served, **launch: Any) -> None:
    async def start() -> None:
        async with replica(target, max_ongoing_requests=3, **launch) as it:
            await main(it)

    asyncio.run(start())


def test_it_holds_its_slot_until_the_application_returns() -> None:
    async def main(it: Replica) -> None:
        calls = [await open_socket(it, "echo") for _ in range(3)]
        assert it.ongoing == 3
        fourth = dial(it, "echo")
        await fourth.done.wait()
        assert fourth.error is not None and fourth.error.code == "rejected"
        for call in calls:
            assert call.stream is not None
            call.stream.send(pack_record(1, b"a") + pack_record(1, b"b"))
            await until(lambda call=call: len(call.chunks) == 2)
            assert call.chunks == [pack_record(1, b"a"), pack_record(1, b"b")]
            call.stream.send(pack_close(1000), end=True)
            await call.done.wait()
            assert call.error is None
        assert it.ongoing == 0 and it.room.is_set()
        assert EVENTS == ["1000"] * 3

    served(main)


def test_a_cancel_is_a_disconnect_once_accepted_and_cancels_before() -> None:
    async def main(it: Replica) -> None:
        call = await open_socket(it, "echo")
        early = dial(it, "waits")
        await early.accepted.wait()
        for one in (call, early):
            assert one.stream is not None
            one.stream.cancel()
            await one.done.wait()
            assert one.error is not None and one.error.code == "cancelled"
        assert EVENTS == ["1006", "cancelled before the accept"]
        assert it.ongoing == 0

    served(main)


def test_the_end_of_the_proxy_is_a_disconnect() -> None:
    async def main(it: Replica) -> None:
        await open_socket(it, "echo")
        it.client.close()
        await until(lambda: EVENTS == ["1006"] and it.ongoing == 0)

    served(main)


def test_a_cancel_after_the_deadline_cancels() -> None:
    async def main(it: Replica) -> None:
        deadline = time.monotonic() + 0.2
        call = await open_socket(it, "hold", deadline=deadline)
        await until(lambda: time.monotonic() > deadline)
        assert call.stream is not None
        call.stream.cancel()
        await call.done.wait()
        assert EVENTS == ["cancelled"] and it.ongoing == 0

    served(main)


@pytest.mark.parametrize("path", ["hold", "stubborn"])
def test_a_replica_that_stops_closes_with_1012(path: str) -> None:
    async def main(it: Replica) -> None:
        call = await open_socket(it, path)
        await it.drain(0.0)
        assert EVENTS == ["cancelled"]
        assert call.error is None and call.done.is_set()
        assert unpack_close(call.body[RECORD_SIZE:])[0] == 1012

    served(main)


def test_a_drain_waits_for_open_websockets() -> None:
    async def main(it: Replica) -> None:
        call = await open_socket(it, "echo")
        draining = asyncio.create_task(it.drain(10.0), name="draining")
        await until(lambda: it.worker._slots.draining)
        assert call.stream is not None
        call.stream.send(pack_record(1, b"still served"))
        await until(lambda: bool(call.chunks))
        call.stream.send(pack_close(1000), end=True)
        await draining
        assert call.chunks == [pack_record(1, b"still served")]

    served(main)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (
            "overload",
            429,
            b"Request dropped due to backpressure (num_queued_requests=3, max_queued_requests=2).",
        ),
        ("half", 500, b"Internal Server Error"),
        ("refuses_and_fails", 403, b""),
    ],
)
def test_handshakes_that_fail(path: str, status: int, body: bytes) -> None:
    async def main(it: Replica) -> None:
        call = dial(it, path)
        await call.done.wait()
        assert (call.head.status, call.body, call.answers) == (status, body, 1)
        assert it.ongoing == 0

    served(main)


@pytest.mark.parametrize("path", ["exits", "closes_and_fails"])
def test_whatever_is_raised_ends_this_call_only(path: str) -> None:
    async def main(it: Replica) -> None:
        call = await open_socket(it, path)
        await call.done.wait()
        assert call.error is not None and call.error.code == "user"
        assert it.ongoing == 0
        again = await open_socket(it, "echo")
        assert again.stream is not None
        again.stream.send(pack_close(1000), end=True)
        await again.done.wait()

    served(main)


def test_a_plain_deployment_refuses() -> None:
    async def main(it: Replica) -> None:
        call = dial(it, "")
        await call.done.wait()
        assert call.head.status == 403
        assert call.body == (
            b"Deployment 'D' does not speak WebSocket: only ASGI applications that are given to @serve.ingress do."
        )
        assert it.ongoing == 0

    served(main, plain)
