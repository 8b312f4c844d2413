"""ASGI WebSocket over a call: order of events, close codes, denial, disconnects, back-pressure both ways."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.http.test_asgi import HEAD, Answers, Session, credits_of, run

from eagleray.http.asgi_websocket import ClientDisconnectedError, WebSocket, make_websocket_scope
from eagleray.wire.frames import DATA, KIND_MASK
from eagleray.wire.messages import HttpHead
from eagleray.wire.streams import Incoming
from eagleray.wire.websocket import RECORD_SIZE, pack_close, pack_record

CONNECT = {"type": "websocket.connect"}


def make() -> tuple[WebSocket, Answers, Incoming]:
    session: Any = Session()
    incoming = Incoming(session, 1, HEAD, b"", False)
    session.streams[1] = incoming
    answers = Answers(incoming)
    websocket = WebSocket(incoming, answers)
    incoming.on_data = websocket.on_data
    incoming.accept()
    return websocket, answers, incoming


async def opened() -> tuple[WebSocket, Answers, Incoming]:
    made = make()
    assert await made[0].receive() == CONNECT
    await made[0].send({"type": "websocket.accept"})
    return made


def said(incoming: Incoming) -> list[bytes]:
    session: Any = incoming.connection
    return [body for meta, body in session.out if meta & KIND_MASK == DATA]


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def test_scope() -> None:
    headers = [(b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-protocol", b"c"), (b"x", b"y")]
    scope = make_websocket_scope(HttpHead("GET", "/p", b"/p", b"q", headers, scheme="https", root_path="/r"))
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "wss", ["a", "b", "c"])
    assert (scope["path"], scope["root_path"], scope["headers"]) == ("/p", "/r", headers)
    assert scope["extensions"] == {"websocket.http.response": {}} and "method" not in scope


def test_accept_talk_and_close() -> None:
    async def main() -> None:
        websocket, answers, incoming = make()
        assert await websocket.receive() == CONNECT
        await websocket.send(
            {"type": "websocket.accept", "subprotocol": "json", "headers": [[b"X-A", bytearray(b"1")]]}
        )
        assert answers.begun == (101, [(b"x-a", b"1"), (b"sec-websocket-protocol", b"json")])
        websocket.on_data(
            pack_record(1, "né".encode()) + pack_record(2, b"\xff") + pack_record(1, b""), False
        )
        assert await websocket.receive() == {"type": "websocket.receive", "text": "né"}
        assert await websocket.receive() == {"type": "websocket.receive", "bytes": b"\xff"}
        assert await websocket.receive() == {"type": "websocket.receive", "text": ""}
        await websocket.send({"type": "websocket.send", "text": "é"})
        await websocket.send({"type": "websocket.send", "bytes": memoryview(b"ab"), "text": None})
        await websocket.send({"type": "websocket.close", "code": 4000, "reason": "bye"})
        assert said(incoming) == [
            pack_record(1, "é".encode()),
            pack_record(2, b"ab"),
            pack_close(4000, "bye"),
        ]
        assert await websocket.receive() == await websocket.receive() == disconnect(4000, "bye")
        with pytest.raises(RuntimeError, match="was closed"):
            await websocket.send({"type": "websocket.send", "text": "too late"})

    run(main)


def test_a_close_before_accept_is_a_403() -> None:
    async def main() -> None:
        websocket, answers, _ = make()
        await websocket.send({"type": "websocket.close"})
        assert answers.whole == (403, [], b"") and websocket.answered and not websocket.accepted
        assert await websocket.receive() == CONNECT
        assert await websocket.receive() == disconnect(1006)

    run(main)


def test_a_denial_response() -> None:
    async def main() -> None:
        websocket, answers, _ = make()
        kind = "websocket.http.response."
        await websocket.send({"type": kind + "start", "status": 451, "headers": [(b"A", b"b")]})
        assert not websocket.begun
        with pytest.raises(RuntimeError):
            await websocket.send({"type": "websocket.accept"})
        await websocket.send({"type": kind + "body", "body": b"no"})
        assert answers.whole == (451, [(b"a", b"b")], b"no") and websocket.answered

    run(main)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "a"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.http.response.body", "body": b""},
        {"type": "nonsense"},
    ],
)
def test_what_is_out_of_order_is_told(message: dict[str, Any]) -> None:
    async def main() -> None:
        websocket, answers, _ = make()
        with pytest.raises(RuntimeError, match=str(message["type"])):
            await websocket.send(message)
        assert answers.begun is None and answers.whole is None

    run(main)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "text": "\ud800"}, UnicodeEncodeError),
        ({"type": "websocket.send", "bytes": "text"}, TypeError),
        ({"type": "websocket.close", "code": 1006}, ValueError),
        ({"type": "websocket.close", "code": 5000}, ValueError),
    ],
)
def test_what_cannot_be_sent_is_the_applications_error(
    message: dict[str, Any], error: type[Exception]
) -> None:
    async def main() -> None:
        websocket, _, incoming = await opened()
        with pytest.raises(error):
            await websocket.send(message)
        await websocket.send({"type": "websocket.send", "text": "still open"})
        assert said(incoming) == [pack_record(1, b"still open")]

    run(main)


def test_the_end_is_received_in_its_turn_and_stops_send_at_once() -> None:
    async def main() -> None:
        websocket, _, incoming = await opened()
        websocket.on_data(pack_record(1, b"last words"), False)
        websocket.on_data(pack_close(1001, "away"), True)
        with pytest.raises(ClientDisconnectedError):
            await websocket.send({"type": "websocket.send", "text": "hello?"})
        assert await websocket.receive() == {"type": "websocket.receive", "text": "last words"}
        assert await websocket.receive() == await websocket.receive() == disconnect(1001, "away")
        await websocket.send(
            {"type": "websocket.close", "code": 1000}
        )  # as in `finally`: nothing is left to do
        assert said(incoming) == []

    run(main)


def test_several_tasks_may_wait_for_the_end() -> None:
    async def main() -> None:
        websocket, _, _ = await opened()
        waiting = [asyncio.create_task(websocket.receive(), name=f"w{n}") for n in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        websocket.disconnect(1006, "")
        assert await waiting[0] == await waiting[2] == disconnect(1006)

    run(main)


def test_credit_is_given_when_messages_are_received() -> None:
    async def main() -> None:
        websocket, _, incoming = await opened()
        record = pack_record(2, bytes(100_000 - RECORD_SIZE))
        for _ in range(10):
            incoming.received(len(record))
            websocket.on_data(record, False)
        before = credits_of(incoming)
        for _ in range(5):
            await websocket.receive()
        assert credits_of(incoming) == before
        await websocket.receive()
        assert credits_of(incoming) == before + 1, "half a window is given back at once"

    run(main)


def test_send_waits_for_a_slow_client() -> None:
    async def main() -> None:
        websocket, _, incoming = await opened()
        sent = 0

        async def produce() -> None:
            nonlocal sent
            while True:
                await websocket.send({"type": "websocket.send", "bytes": bytes(60_000)})
                sent += 1

        producer = asyncio.create_task(produce(), name="producer")
        for _ in range(200):
            await asyncio.sleep(0)
        assert 15 <= sent <= 20
        incoming.credit(600_000)
        for _ in range(200):
            await asyncio.sleep(0)
        assert 25 <= sent <= 30
        producer.cancel()

    run(main)
