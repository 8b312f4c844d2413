"""Tasks with a name and an owner, and delays that grow between attempts.

asyncio keeps only weak references to tasks and reports their failures late or never; an owner here holds them, logs
what they raise once, and ends them all in `close()`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("eagleray.tasks")


class Tasks:
    """A set of running tasks that ends with its owner. Belongs to the loop that it is used on."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self, work: Coroutine[Any, Any, T], *, name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Runs `work` as `<owner>: <name>`; an exception that it raises is logged, the caller need not await it."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}", context=context)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Asks all tasks to end and does not wait for them."""
        for task in tuple(self._running):
            task.cancel()

    async def join(self) -> None:
        """Waits until all tasks have ended, also those that they start meanwhile."""
        while self._running:
            await asyncio.wait(tuple(self._running))

    async def close(self) -> None:
        """Cancels all tasks and waits until they have ended; also those that they start meanwhile. Idempotent.

        May be called by one of the tasks, which is then left to end by itself.
        """
        current = asyncio.current_task()
        while running := {task for task in self._running if task is not current}:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


class Backoff:
    """Seconds to wait before each next attempt: `first_s`, then `factor` times more up to `limit_s`, with jitter.

    `jitter` is the share by which a delay may shrink, so that many who failed together do not return together.
    """

    def __init__(self, first_s: float, limit_s: float, *, factor: float = 2.0, jitter: float = 0.25) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._factor = factor
        self._jitter = jitter
        self._next_s = first_s

    def next_s(self) -> float:
        """The delay before the next attempt."""
        delay = self._next_s
        self._next_s = min(self._limit_s, delay * self._factor)
        return delay * (1.0 - self._jitter * random.random())

    def reset(self) -> None:
        """An attempt has succeeded: begin anew."""
        self._next_s = self._first_s
