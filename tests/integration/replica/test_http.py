"""HTTP calls to a real replica: Request in, conversion table out, streams, errors, disconnects."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from tests.integration.replica.replica_process import Call, replica, until

from eagleray.base.errors import BackPressureError, DeploymentUnavailableError
from eagleray.serve.context import _get_serve_request_context, get_replica_context

THIS_FILE = Path(__file__).read_bytes()
ERROR = (500, b"Internal Server Error")


def status_and_body(call: Call) -> tuple[int, bytes]:
    assert call.error is None, call.error
    return call.head.status, call.body


class BrokenAttributes(Exception):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class BrokenEverything(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Hostile:
    async def __call__(self, request: Request) -> Any:
        if request.url.path == "/attributes":
            raise BrokenAttributes
        if request.url.path == "/everything":
            raise BrokenEverything
        return "fine"


class HostileInThread:
    def __call__(self, request: Request) -> Any:
        raise BrokenAttributes if request.url.path == "/attributes" else BrokenEverything


@pytest.mark.parametrize("kind", [Hostile, HostileInThread])
def test_an_exception_that_cannot_say_what_it_is_is_answered_and_frees_its_slot(kind: type) -> None:
    async def main() -> None:
        async with replica(kind) as r:
            for path in ("/attributes", "/everything", "/attributes"):
                assert status_and_body(await asyncio.wait_for(r.get(path), 5)) == ERROR
            assert r.ongoing == 0

    asyncio.run(main())


class Unsendable:
    async def __call__(self, request: Request) -> Any:
        return Response("x", status_code=10**20)


def test_a_status_that_no_head_can_hold_is_an_internal_error() -> None:
    async def main() -> None:
        async with replica(Unsendable) as r:
            call = await asyncio.wait_for(r.get(), 5)
            assert call.error is not None and call.error.code == "internal"
            assert "OverflowError" in call.error.message
            assert r.ongoing == 0

    asyncio.run(main())


class Item(BaseModel):
    a: int


class Answering:
    async def __call__(self, request: Request) -> Any:
        return {
            "/none": None,
            "/bytes": b"raw",
            "/text": "häh",
            "/json": {"a": [1, 2.5, None]},
            "/model": Item(a=1),
            "/response": JSONResponse({"x": 1}, status_code=201, headers={"x-own": "1"}),
            "/object": object(),
            "/generator": (i for i in range(3)),
        }[request.url.path]


def test_conversion_table() -> None:
    async def main() -> None:
        async with replica(Answering) as r:
            for path, content_type, body in (
                ("/none", b"text/plain", b""),
                ("/bytes", b"text/plain", b"raw"),
                ("/text", b"text/plain; charset=utf-8", "häh".encode()),
                ("/json", b"application/json", b'{"a":[1,2.5,null]}'),
                ("/model", b"application/json", b'{"a":1}'),
            ):
                call = await r.get(path)
                assert status_and_body(call) == (200, body)
                assert call.head.headers == [(b"content-type", content_type)]
            call = await r.get("/response")
            assert status_and_body(call) == (201, b'{"x":1}') and (b"x-own", b"1") in call.head.headers
            for path in ("/object", "/generator", "/missing"):
                assert status_and_body(await r.get(path)) == ERROR
            assert r.ongoing == 0

    asyncio.run(main())


class Reading:
    async def __call__(self, request: Request) -> Any:
        if request.url.path == "/stream":
            return [len(chunk) async for chunk in request.stream()]
        if request.url.path == "/again":
            first = await request.body()
            again = Request(request.scope, request.receive)
            return [first.decode(), (await again.body()).decode()]
        context = _get_serve_request_context()
        return {
            "json": await request.json(),
            "query": dict(request.query_params),
            "header": request.headers["x-a"],
            "method": request.method,
            "client": request.client and request.client.host,
            "id": context.request_id,
            "route": context.route,
            "app": context.app_name,
            "http": context.is_http_request,
            "replica": get_replica_context().replica_tag,
        }


def test_user_code_gets_a_starlette_request_and_its_context() -> None:
    async def main() -> None:
        async with replica(Reading) as r:
            call = await r.get("/x", method="PUT", body=b'{"k":1}', headers=[(b"x-a", b"v")], query=b"q=2")
            assert json.loads(call.body) == {
                "json": {"k": 1},
                "query": {"q": "2"},
                "header": "v",
                "method": "PUT",
                "client": "127.0.0.1",
                "id": "r1",
                "route": "/",
                "app": "app",
                "http": True,
                "replica": "abcdefgh",
            }
            assert json.loads((await r.get("/again", body=b"twice")).body) == ["twice", "twice"]

    asyncio.run(main())


def test_an_upload_is_streamed_to_user_code() -> None:
    async def main() -> None:
        async with replica(Reading) as r:
            call = r.http("/stream", body=b"x" * 10, end=False)
            assert call.stream is not None
            await call.accepted.wait()
            for _ in range(20):
                call.stream.send(b"y" * 200_000)
            call.stream.send(b"z", end=True)
            await call.done.wait()
            status, body = status_and_body(call)
            assert status == 200 and sum(json.loads(body)) == 10 + 20 * 200_000 + 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["async", "sync", "function", "lambda", "predict"])
def test_callables_without_parameters_get_none(kind: str) -> None:
    class Async:
        async def __call__(self) -> str:
            return "ok"

    class Sync:
        def __call__(self) -> str:
            return "ok"

    class Predict:
        def predict(self) -> str:
            return "ok"

    def function() -> str:
        return "ok"

    target: Any = {
        "async": Async,
        "sync": Sync,
        "function": function,
        "lambda": lambda: "ok",
        "predict": Predict,
    }[kind]

    async def main() -> None:
        async with replica(target) as r:
            assert status_and_body(await r.get()) == (200, b"ok")

    asyncio.run(main())


class Threaded:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(3, timeout=10)

    def __call__(self, request: Request) -> Any:
        if request.url.path == "/stream":
            return StreamingResponse(iter(["a", "b"]))
        self.barrier.wait()
        return _get_serve_request_context().request_id


def test_sync_callables_run_in_parallel_threads() -> None:
    async def main() -> None:
        async with replica(Threaded, max_ongoing_requests=3) as r:
            calls = [r.http() for _ in range(3)]
            for call in calls:
                await call.done.wait()
                assert status_and_body(call) == (200, b"r1")
            assert status_and_body(await r.get("/stream")) == (200, b"ab")
            assert r.ongoing == 0

    asyncio.run(main())


class Streaming:
    def __init__(self) -> None:
        self.produced = 0
        self.go = asyncio.Event()
        self.closed: list[str] = []

    async def __call__(self, request: Request) -> Response:
        if request.url.path == "/file":
            return FileResponse(__file__)
        if request.url.path == "/sync":
            return StreamingResponse(self.sync_chunks())
        return StreamingResponse({"/two": self.two, "/endless": self.endless}[request.url.path]())

    async def two(self) -> AsyncIterator[bytes]:
        yield b"first"
        await self.go.wait()
        yield b"last"

    def sync_chunks(self) -> Iterator[bytes]:
        yield from (b"%d" % i for i in range(5))

    async def endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.produced += 1
                yield b"x" * 50_000
        finally:
            self.closed.append("endless")

    async def release(self) -> None:
        self.go.set()

    async def state(self) -> tuple[int, list[str]]:
        return self.produced, self.closed


def test_streaming_and_file_responses() -> None:
    async def main() -> None:
        async with replica(Streaming) as r:
            call = r.http("/two")
            while not call.chunks:
                call.changed.clear()
                await call.changed.wait()
            assert call.chunks == [b"first"] and not call.done.is_set() and r.ongoing == 1
            await r.value("release")
            await call.done.wait()
            assert status_and_body(call) == (200, b"firstlast")
            assert status_and_body(await r.get("/sync")) == (200, b"01234")
            assert status_and_body(await r.get("/file")) == (200, THIS_FILE)

    asyncio.run(main())


def test_a_slow_reader_stops_the_stream_and_a_gone_one_ends_it() -> None:
    async def main() -> None:
        async with replica(Streaming) as r:
            call = r.http("/endless", credit=False)
            assert call.stream is not None
            while sum(map(len, call.chunks)) < 900_000:
                call.changed.clear()
                await call.changed.wait()
            produced = -1
            while produced != (produced := (await r.value("state"))[0]) or produced < 20:
                pass
            assert 20 <= produced <= 30
            call.stream.cancel()
            await call.done.wait()
            assert call.error is not None and call.error.code == "cancelled"
            assert r.ongoing == 0
            async with asyncio.timeout(10):
                while (await r.value("state"))[1] != [
                    "endless"
                ]:  # the loop closes the generator that is left
                    pass

    asyncio.run(main())


class Failing:
    async def __call__(self, request: Request) -> Any:
        kinds: dict[str, BaseException] = {
            "/value": ValueError("v"),
            "/exit": SystemExit(3),
            "/interrupt": KeyboardInterrupt(),
            "/generator-exit": GeneratorExit(),
            "/base": BaseException("b"),
            "/cancelled": asyncio.CancelledError(),
            "/stop": StopIteration(),
            "/busy": BackPressureError(3, 2, 429, 1.5),
            "/unavailable": DeploymentUnavailableError("Deployment(x)"),
        }
        if request.url.path == "/mid":
            return StreamingResponse(self.chunks())
        raise kinds[request.url.path]

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"a"
        raise SystemExit(1)


class FailingSync(Failing):
    def __call__(self, request: Request) -> Any:  # type: ignore[override]
        coroutine = super().__call__(request)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        except RuntimeError as error:
            raise error.__cause__ or error from None


@pytest.mark.parametrize("target", [Failing, FailingSync])
def test_whatever_user_code_raises_is_an_answer(target: type) -> None:
    async def main() -> None:
        async with replica(target) as r:
            for path in ("value", "exit", "interrupt", "generator-exit", "base", "cancelled", "stop"):
                call = await r.get(f"/{path}")
                assert status_and_body(call) == ERROR, path
                assert call.head.headers == [(b"content-type", b"text/plain; charset=utf-8")]
            call = await r.get("/busy")
            assert call.head.status == 429 and (b"retry-after", b"2") in call.head.headers
            assert call.body.startswith(b"Request dropped due to backpressure")
            assert (await r.get("/unavailable")).head.status == 503
            call = await r.get("/mid")
            assert call.body == b"a" and call.error is not None and call.error.code == "user"
            assert r.ongoing == 0

    asyncio.run(main())


class Dying:
    async def __call__(self) -> str:
        self.task = asyncio.get_running_loop().create_task(self.die())
        await asyncio.wait([self.task])
        self.task.exception()
        return "survived"

    async def die(self) -> None:
        raise SystemExit(9)


def test_a_task_of_the_users_that_exits_does_not_end_the_replica() -> None:
    async def main() -> None:
        async with replica(Dying) as r:
            for _ in range(2):
                assert status_and_body(await r.get()) == (200, b"survived")

    asyncio.run(main())


class Empty: ...


def test_a_class_without_entry_answers_500() -> None:
    async def main() -> None:
        async with replica(Empty) as r:
            assert status_and_body(await r.get()) == ERROR

    asyncio.run(main())


class Waiting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, request: Request) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append(f"cancelled, disconnected={await request.is_disconnected()}")
            raise
        return ""

    async def log(self) -> list[str]:
        return self.seen


def test_a_client_that_goes_cancels_the_handler() -> None:
    async def main() -> None:
        async with replica(Waiting) as r:
            call = r.http()
            await until(lambda: r.ongoing)
            await r.value("log")
            assert call.stream is not None
            call.stream.cancel()
            await call.done.wait()
            assert call.error is not None and call.error.code == "cancelled"
            assert len(await r.value("log")) == 1 and r.ongoing == 0

    asyncio.run(main())
