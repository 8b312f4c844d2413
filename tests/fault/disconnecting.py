"""The application of the disconnect test: every kind of work, each counted while it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from eagleray import serve

SLOTS = 16


class Counted:
    """Knows how many of its calls run."""

    def __init__(self) -> None:
        self.active = 0
        self.barrier = asyncio.Barrier(SLOTS)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def together(self) -> None:
        """Returns only when as many calls as there are slots run at once."""
        async with asyncio.timeout(20):
            await self.barrier.wait()


@serve.deployment(max_ongoing_requests=SLOTS)
class Child(Counted):
    async def work(self) -> None:
        with self.counted():
            await asyncio.sleep(random.random() * 0.005)

    def work_in_a_thread(self) -> None:
        with self.counted():
            pass

    async def chunks(self) -> AsyncIterator[bytes]:
        with self.counted():
            for _ in range(20):
                yield b"x" * 10_000
                await asyncio.sleep(0)

    async def busy(self) -> int:
        return self.active


@serve.deployment(max_ongoing_requests=SLOTS)
class Front(Counted):
    def __init__(self, child: Any) -> None:
        super().__init__()
        self.child = child

    async def __call__(self, request: Request) -> Any:
        kind = request.url.path.strip("/")
        if kind == "busy":
            return [self.active, await self.child.busy.remote()]
        if kind == "together":
            return await self.together()
        if kind == "together-below":
            await asyncio.gather(*(self.child.together.remote() for _ in range(SLOTS)))
            return None
        if kind == "stream":
            return StreamingResponse(self._relay())
        with self.counted():
            await request.body()
            await (self.child.work_in_a_thread if kind == "thread" else self.child.work).remote()
        return "done"

    async def _relay(self) -> AsyncIterator[bytes]:
        with self.counted():
            async for chunk in self.child.options(stream=True).chunks.remote():
                yield chunk


app = Front.bind(Child.bind())
