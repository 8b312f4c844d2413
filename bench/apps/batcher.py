"""What one writes by hand where the server cannot batch: up to 32 items, or those of 5 ms, one batch after another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

SIZE, WAIT_S, MODEL_S = 32, 0.005, 0.005


class Batcher:
    """Made on first use, because only then there is a loop."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[asyncio.Future[str]] | None = None
        self._task: asyncio.Task[None] | None = None

    async def ask(self) -> str:
        if self._queue is None:
            self._queue = asyncio.Queue()
            self._task = asyncio.create_task(self._serve(self._queue))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(answer)
        return await answer

    async def _serve(self, queue: asyncio.Queue[Any]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await queue.get()]
            deadline = loop.time() + WAIT_S
            while len(batch) < SIZE:
                try:
                    batch.append(queue.get_nowait())
                except asyncio.QueueEmpty:
                    try:
                        async with asyncio.timeout_at(deadline):
                            batch.append(await queue.get())
                    except TimeoutError:
                        break
            time.sleep(MODEL_S)  # noqa: ASYNC251 - a model that blocks
            for answer in batch:
                if not answer.done():
                    answer.set_result("ok")
