"""What an answered call leaves behind: nothing that waits for the garbage collector.

With a cycle in each call, memory is new and cold for thousands of calls until a collection, and a collection looks at
every call that is under way: together a fifth of a small request's time.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from tests.integration.replica.replica_process import Replica, replica, until

from eagleray.http.asgi import Exchange
from eagleray.replica.http_call import HttpCall
from eagleray.replica.python_call import PythonCall
from eagleray.serve.context import RequestContext
from eagleray.wire.streams import Incoming

KINDS = (HttpCall, PythonCall, Exchange, Incoming, RequestContext)
CALLS = 5


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"chunk"


class Async:
    async def __call__(self, request: Request) -> Any:
        match request.url.path:
            case "/text":
                return "text"
            case "/response":
                return PlainTextResponse("text")
            case "/stream":
                return StreamingResponse(chunks())
            case "/error":
                raise ValueError("wrong")
            case _:
                return (await request.body()).decode()

    async def method(self) -> str:
        return "text"

    async def failing(self) -> str:
        raise ValueError("wrong")

    async def items(self) -> AsyncIterator[int]:
        for item in range(3):
            yield item


class InThread:
    def __call__(self, request: Request) -> Any:
        if request.url.path == "/error":
            raise ValueError("wrong")
        return StreamingResponse(chunks()) if request.url.path == "/stream" else "text"

    def method(self) -> str:
        return "text"

    def items(self) -> Iterator[int]:
        yield from range(3)


@contextmanager
def uncollected() -> Iterator[Counter[type]]:
    """What lives before any call, with the collector out of the way."""
    gc.collect()
    gc.disable()
    try:
        yield alive()
    finally:
        gc.enable()


def alive() -> Counter[type]:
    return Counter(type(one) for one in gc.get_objects() if type(one) in KINDS)


async def ask(r: Replica, path: str) -> None:
    body = b"body" if path == "/body" else b""
    await r.http(path, method="POST" if body else "GET", body=body).done.wait()


@pytest.mark.parametrize("path", ["/text", "/response", "/stream", "/error", "/body"])
@pytest.mark.parametrize("kind", [Async, InThread])
def test_an_http_request_leaves_nothing(kind: type, path: str) -> None:
    async def main() -> None:
        async with replica(kind) as r:
            await ask(r, path)
            with uncollected() as before:
                for _ in range(CALLS):
                    await ask(r, path)
                await until(lambda: alive() <= before)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Async, "method"),
        (Async, "failing"),
        (Async, "items"),
        (InThread, "method"),
        (InThread, "items"),
    ],
)
def test_a_handle_call_leaves_nothing(kind: type, method: str) -> None:
    async def main() -> None:
        async with replica(kind) as r:
            await r.python(method, stream=method == "items").done.wait()
            with uncollected() as before:
                for _ in range(CALLS):
                    await r.python(method, stream=method == "items").done.wait()
                await until(lambda: alive() <= before)

    asyncio.run(main())


class Late(PlainTextResponse):
    """Is sent by a task that outlives its `__call__`."""

    async def __call__(self, *given: Any) -> None:
        self.task = asyncio.create_task(super().__call__(*given))


class Detached:
    async def __call__(self, request: Request) -> Any:
        return Late("late")


def test_a_response_may_be_sent_when_its_handler_has_returned() -> None:
    async def main() -> None:
        async with replica(Detached) as r:
            call = await asyncio.wait_for(r.get("/"), 10)
            assert (call.head.status, call.body, r.ongoing) == (200, b"late", 0)

    asyncio.run(main())
