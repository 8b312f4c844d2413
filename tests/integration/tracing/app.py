"""Applications whose requests are traced: a door that calls a child, which batches and calls another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from opentelemetry import trace

from eagleray import serve

api = FastAPI()


@serve.deployment
class Leaf:
    def __call__(self, number: int) -> int:
        return number + 1


@serve.deployment(max_ongoing_requests=10)
class Child:
    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=10.0)
    async def _add(self, numbers: list[int]) -> list[int]:
        return [await self.leaf.remote(number) for number in numbers]

    async def __call__(self, number: int) -> int:
        if number < 0:
            raise ValueError("it is negative")
        return await self._add(number)

    async def wait(self, mark: str) -> int:
        _leave(mark)
        await asyncio.Event().wait()
        return 0

    async def count(self, limit: int) -> AsyncIterator[int]:
        for number in range(limit):
            yield number


@serve.deployment
@serve.ingress(api)
class Door:
    def __init__(self, child: Any) -> None:
        self.child = child

    @api.get("/add/{number}")
    async def add(self, number: int) -> int:
        return await self.child.remote(number)

    @api.get("/pair")
    async def pair(self) -> list[int]:
        return list(await asyncio.gather(self.child.remote(1), self.child.remote(2)))

    @api.get("/own")
    async def own(self) -> int:
        tracer = trace.get_tracer("of-the-user")
        with tracer.start_as_current_span("work", context=serve.get_trace_context()):
            return sum([number async for number in self.child.options(stream=True).count.remote(3)])

    @api.get("/sync")
    def sync(self) -> bool:
        return serve.get_trace_context() is not None

    @api.get("/wait")
    async def wait(self, mark: str) -> int:
        return await self.child.wait.remote(mark)

    @api.websocket("/ws")
    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(str(serve.get_trace_context() is not None))
        await websocket.close(1000)


def _leave(mark: str) -> None:
    Path(mark).touch()


def build() -> Any:
    return Door.bind(Child.bind(Leaf.bind()))  # type: ignore[attr-defined]
