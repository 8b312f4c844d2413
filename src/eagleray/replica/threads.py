"""Threads for sync user code: one for each call that may run at once, started when they are first needed.

A call that holds a slot never waits for a thread, because there are as many threads as slots; so there is no second
queue and no second limit. The threads are daemons: a call that never returns must not keep the process alive, which
the threads of `concurrent.futures` would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], object]


class Threads:
    """Belongs to the user's loop: `submit` when work has a slot, `done` when its answer has come back.

    Work must not raise: it ends its call by itself.
    """

    __slots__ = ("_busy", "_queue", "_started")

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._busy = 0
        self._started = 0

    def submit(self, work: Work) -> None:
        self._busy += 1
        if self._busy > self._started:
            self._started += 1
            threading.Thread(
                target=_run_all, args=(self._queue,), name=f"user-{self._started}", daemon=True
            ).start()
        self._queue.put(work)

    def done(self) -> None:
        """The work's thread is free, or will be in a moment."""
        self._busy -= 1

    def close(self) -> None:
        """Ends the threads that are idle, and the others after their work; waits for none."""
        for _ in range(self._started):
            self._queue.put(None)


def _run_all(queue: SimpleQueue[Work | None]) -> None:
    while True:
        work = queue.get()
        if work is None:
            return
        work()
        del work  # what it holds must not live until the next call
