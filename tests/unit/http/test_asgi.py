"""ASGI over a call: order of messages, back-pressure both ways, disconnect, lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from eagleray.http.asgi import Exchange, Lifespan, LifespanError, make_scope
from eagleray.http.outflow import LIMIT, Outflow, Turns
from eagleray.wire.frames import CREDIT, MAX_CHUNK
from eagleray.wire.messages import CallHead, CallKind, Headers, HttpHead, ReplyHead
from eagleray.wire.streams import Incoming

HEAD = CallHead(
    CallKind.HTTP, http=HttpHead("POST", "/p q", b"/p%20q", b"a=1", [(b"host", b"h")], client=("c", 1))
)


class Session:
    """Collects what a call emits; the far side of `Incoming`."""

    def __init__(self) -> None:
        self.out: list[tuple[int, bytes]] = []
        self.paused = False
        self.blocked: dict[int, Any] = {}
        self.streams: dict[int, Incoming] = {}

    def emit(self, meta: int, stream_id: int, head: bytes = b"", body: bytes = b"") -> None:
        self.out.append((meta, bytes(body)))

    def emit_data(self, meta: int, stream_id: int, chunk: bytes) -> None:
        self.out.append((meta, bytes(chunk)))

    def emit_whole(self, frame: bytes, under_way: int) -> None:
        self.out.append((-1, frame))

    def notify(self, stream: Incoming, callback: Callable[..., None], *args: Any) -> None:
        callback(*args)


class Answers:
    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.whole: tuple[int, Headers, bytes] | None = None
        self.begun: tuple[int, Headers] | None = None
        self.finished = False
        self.outflow = Outflow(incoming, put, Turns())

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.whole = (status, headers, body)

    def begin(self, status: int, headers: Headers, first: bytes) -> Outflow:
        self.begun = (status, headers)
        self.incoming.reply(ReplyHead(status=status, headers=headers), first, False)
        return self.outflow

    def finish(self) -> None:
        self.finished = True


def put(function: Callable[..., object], *args: object) -> None:
    function(*args)


def make(body: bytes = b"", ended: bool = True) -> tuple[Exchange, Answers, Incoming]:
    session: Any = Session()
    incoming = Incoming(session, 1, HEAD, body, ended)
    session.streams[1] = incoming
    answers = Answers(incoming)
    return Exchange(incoming, answers), answers, incoming


def credits_of(incoming: Incoming) -> int:
    """How often the caller was allowed to send more; the first time is the acceptance."""
    session: Any = incoming.connection
    return sum(meta == CREDIT for meta, _ in session.out)


def start(status: int = 200, headers: Any = ()) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_scope_has_what_the_head_has() -> None:
    assert HEAD.http is not None
    scope = make_scope(HEAD.http)
    assert scope["type"] == "http" and scope["path"] == "/p q" and scope["raw_path"] == b"/p%20q"
    assert scope["query_string"] == b"a=1" and scope["client"] == ("c", 1) and scope["method"] == "POST"


def test_a_whole_response_is_one_answer() -> None:
    async def main() -> None:
        exchange, answers, _ = make(b"body")
        assert await exchange.receive() == {"type": "http.request", "body": b"body", "more_body": False}
        await exchange.send(start(201, [[b"X-A", bytearray(b"1")]]))
        await exchange.send(part(memoryview(b"hello")))
        assert answers.whole == (201, [(b"x-a", b"1")], b"hello") and exchange.complete
        assert await exchange.receive() == {"type": "http.disconnect"}

    run(main)


def test_a_streamed_response_waits_for_its_reader() -> None:
    async def main() -> None:
        exchange, answers, incoming = make()
        await exchange.send(start())
        chunk = b"x" * 60_000
        sent = 0

        async def produce() -> None:
            nonlocal sent
            while True:
                await exchange.send(part(chunk, True))
                sent += len(chunk)

        producer = asyncio.get_running_loop().create_task(produce(), name="producer")
        for _ in range(200):
            await asyncio.sleep(0)
        assert answers.begun == (200, [])
        assert 1024 * 1024 - len(chunk) <= sent <= 1024 * 1024 + LIMIT + len(chunk)
        before = sent
        incoming.credit(512 * 1024)
        for _ in range(200):
            await asyncio.sleep(0)
        assert before + 512 * 1024 - 2 * LIMIT <= sent <= before + 512 * 1024 + 2 * LIMIT
        producer.cancel()
        await asyncio.wait([producer])

    run(main)


def test_the_end_of_a_stream() -> None:
    async def main() -> None:
        exchange, answers, _ = make()
        await exchange.send(start())
        await exchange.send(part(b"a", True))
        await exchange.send(part(b"b"))
        assert answers.finished and exchange.complete

    run(main)


def test_an_upload_arrives_in_parts_and_is_acknowledged() -> None:
    async def main() -> None:
        exchange, _, incoming = make(b"one", ended=False)
        incoming.accept()
        assert (await exchange.receive())["body"] == b"one"
        waiting = asyncio.get_running_loop().create_task(exchange.receive(), name="receive")
        await asyncio.sleep(0)
        chunk = b"x" * MAX_CHUNK
        for _ in range(2):
            incoming.received(MAX_CHUNK)
            exchange.on_data(chunk, False)
        assert await waiting == {"type": "http.request", "body": chunk, "more_body": True}
        assert credits_of(incoming) == 1
        assert (await exchange.receive())["body"] == chunk
        assert credits_of(incoming) == 2
        exchange.on_data(b"", True)
        assert await exchange.receive() == {"type": "http.request", "body": b"", "more_body": False}

    run(main)


def test_disconnect_wakes_receive_and_fails_send() -> None:
    async def main() -> None:
        exchange, _, _ = make(b"", ended=False)
        await exchange.receive()
        waiting = asyncio.get_running_loop().create_task(exchange.receive(), name="receive")
        await asyncio.sleep(0)
        exchange.disconnect()
        assert await waiting == {"type": "http.disconnect"}
        with pytest.raises(OSError, match="gone"):
            await exchange.send(start())

    run(main)


@pytest.mark.parametrize(
    "messages",
    [
        [part(b"x")],
        [start(), start()],
        [start(), part(b"x"), part(b"y")],
        [{"type": "websocket.send"}],
        [start(headers=[("name", b"value")])],
        [start("x")],  # type: ignore[arg-type]
    ],
    ids=["body first", "two starts", "after the end", "unknown", "text header", "text status"],
)
def test_what_an_application_may_not_send(messages: list[dict[str, Any]]) -> None:
    async def main() -> None:
        exchange, _, _ = make()
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            for message in messages:
                await exchange.send(message)

    run(main)


def lifespan_app(startup: str = "complete", shutdown: str = "complete") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["up"] = True
        await send({"type": f"lifespan.startup.{startup}", "message": "no database"})
        assert (await receive())["type"] == "lifespan.shutdown"
        scope["state"]["up"] = False
        if shutdown == "raise":
            raise SystemExit(1)
        await send({"type": f"lifespan.shutdown.{shutdown}", "message": "lost"})

    return app


def test_lifespan_starts_and_stops_once() -> None:
    async def main() -> None:
        lifespan = Lifespan(lifespan_app())
        await lifespan.startup()
        assert lifespan.state == {"up": True}
        assert await lifespan.shutdown() == "" and lifespan.state == {"up": False}
        assert await lifespan.shutdown() == ""

    run(main)


def test_a_failed_start_raises_with_the_applications_words() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("framework")

    async def main() -> None:
        with pytest.raises(LifespanError, match="no database"):
            await Lifespan(app).startup()

    run(main)


@pytest.mark.parametrize("how", ["failed", "raise"])
def test_a_failed_shutdown_is_reported(how: str) -> None:
    async def main() -> None:
        lifespan = Lifespan(lifespan_app(shutdown=how))
        await lifespan.startup()
        assert await lifespan.shutdown() == ("lost" if how == "failed" else "SystemExit: 1")

    run(main)


def test_applications_without_lifespan_are_left_alone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    async def main() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert await lifespan.shutdown() == ""

    run(main)
