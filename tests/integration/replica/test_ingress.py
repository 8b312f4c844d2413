"""FastAPI and other ASGI applications in a real replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from tests.integration.replica.replica_process import replica

from eagleray.base.errors import BackPressureError
from eagleray.serve.ingress import ingress

EVENTS: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    EVENTS.append("up")
    yield {"store": "open"}
    EVENTS.append("down")


class Item(BaseModel):
    name: str
    price: float


def make_app() -> FastAPI:
    return FastAPI(lifespan=lifespan)


app = make_app()


@ingress(app)
class Api:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.background: list[str] = []

    @app.get("/times/{value}")
    async def times(self, value: int) -> dict[str, int]:
        return {"result": value * self.factor}

    @app.post("/items")
    def create(self, item: Item) -> Item:
        return item

    @app.get("/state")
    def state(self, request: Request) -> str:
        return str(request.state.store)

    @app.get("/teapot")
    def teapot(self) -> None:
        raise HTTPException(418, "short and stout")

    @app.get("/boom")
    async def boom(self) -> None:
        raise SystemExit(1)

    @app.get("/error")
    async def error(self) -> None:
        raise ValueError("x")

    @app.get("/busy")
    async def busy(self) -> None:
        raise BackPressureError(1, 1)

    @app.get("/stream")
    async def stream(self) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            for i in range(3):
                yield str(i)

        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/task")
    async def task(self, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.background.append, "ran")
        return "ok"

    def plain(self, value: int) -> int:
        return value * self.factor

    async def ran(self) -> list[str]:
        return self.background


def test_class_based_views() -> None:
    EVENTS.clear()

    async def main() -> None:
        async with replica(None, 3, target=f"{__name__}:Api") as r:
            assert EVENTS == ["up"] and r.ready.docs_path == "/docs"
            assert json.loads((await r.get("/times/7")).body) == {"result": 21}
            item = b'{"name":"n","price":1.5}'
            call = await r.get(
                "/items", method="POST", body=item, headers=[(b"content-type", b"application/json")]
            )
            assert (call.head.status, json.loads(call.body)) == (200, json.loads(item))
            assert (await r.get("/times/x")).head.status == 422
            assert (await r.get("/nowhere")).head.status == 404
            call = await r.get("/teapot")
            assert call.head.status == 418 and b"short and stout" in call.body
            assert json.loads((await r.get("/state")).body) == "open"
            for path in ("/boom", "/error"):
                call = await r.get(path)
                assert (call.head.status, call.body) == (500, b"Internal Server Error")
            assert (await r.get("/busy")).head.status == 503
            assert (await r.get("/stream")).body == b"012"
            assert json.loads((await r.get("/task")).body) == "ok"
            assert await r.value("plain", 5) == 15
            while await r.value("ran") != ["ran"]:
                pass
            assert r.ongoing == 0
            await r.drain()
            assert EVENTS == ["up", "down"]

    asyncio.run(main())


class Raw:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/silent":
            return
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            return
        size = 0
        more = True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Size", b"%d" % size)]})
        await send({"type": "http.response.body", "body": b"x" * size})


@ingress(Raw())
class RawIngress: ...


def test_a_bare_asgi_application() -> None:
    async def main() -> None:
        async with replica(RawIngress) as r:
            call = await r.get(body=b"y" * 700_000)
            assert len(call.body) == 700_000 and call.head.headers == [(b"x-size", b"700000")]
            call = await r.get("/silent")
            assert (call.head.status, call.body) == (500, b"Internal Server Error")
            call = await r.get("/half")
            assert call.body == b"half" and call.error is not None and call.error.code == "user"
            assert r.ongoing == 0

    asyncio.run(main())


@asynccontextmanager
async def failing_lifespan(app: FastAPI) -> AsyncIterator[None]:
    raise RuntimeError("no database")
    yield


def build_failing() -> FastAPI:
    return FastAPI(lifespan=failing_lifespan)


@ingress(build_failing)
class FailingIngress: ...


def test_a_failing_lifespan_is_a_failed_start() -> None:
    async def main() -> None:
        async with replica(None, target=f"{__name__}:FailingIngress", expect_error=True) as r:
            assert "no database" in r.ready.error

    asyncio.run(main())
