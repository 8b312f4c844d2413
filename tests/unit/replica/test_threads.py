"""Threads for sync code: as many as are busy, reused, and never in the way of hooks."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading

import pytest

from eagleray.base.threads import run_in_new_thread
from eagleray.replica.threads import Threads


def test_every_busy_call_has_its_own_thread_and_threads_are_reused() -> None:
    threads = Threads()
    barrier = threading.Barrier(4, timeout=10)
    names: queue.SimpleQueue[str] = queue.SimpleQueue()

    def meet() -> None:
        barrier.wait()
        names.put(threading.current_thread().name)

    def look() -> None:
        names.put(threading.current_thread().name)

    for _ in range(4):
        threads.submit(meet)
    first = {names.get(timeout=10) for _ in range(4)}
    assert len(first) == 4
    for _ in range(4):
        threads.done()
    threads.submit(look)
    assert names.get(timeout=10) in first
    threads.close()


def test_hooks_keep_their_context_and_raise_what_they_raise() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("v", default=0)

    def fail() -> None:
        raise SystemExit(4)

    async def main() -> None:
        variable.set(5)
        assert await run_in_new_thread(variable.get) == 5
        with pytest.raises(SystemExit):
            await run_in_new_thread(fail)

    asyncio.run(main())
