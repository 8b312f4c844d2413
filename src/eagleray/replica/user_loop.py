"""The thread on which user code's event loop runs, from the replica's start to its end.

Calls come in here too. User code owns this loop as far as it can: it may block it, start tasks on it, even stop it by
raising SystemExit in a task. The control loop beside it goes on, so the controller always gets an answer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import get_ident
from typing import Any, TypeVar, TypeVarTuple, Unpack

from eagleray.rpc.bridge import Bridge

_new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_event_loop
except ImportError:  # a platform without uvloop
    _new_event_loop = asyncio.new_event_loop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger("ray.serve")


class UserLoop:
    """Made and closed by the worker. `bridge` and `post` hand over calls, `run` awaits a coroutine there."""

    def __init__(self) -> None:
        self.loop = _new_event_loop()
        self.bridge = Bridge(self.loop)
        self._stopping = False
        self._ended: Future[None] = Future()
        # A daemon: user code that blocks its loop for ever must not keep the process alive.
        self._thread = threading.Thread(target=self._main, name="user-loop", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self._stopping:
            try:
                loop.run_forever()
            except (
                BaseException
            ):  # a task of the user's raised SystemExit or KeyboardInterrupt: its own end only
                logger.exception("A task on the user's event loop tried to end the process.")
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException:  # as above
            logger.exception("The user's event loop did not end in order.")
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            self._ended.set_result(None)

    def post(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Runs `fn(*args)` here, at once on this thread, and there lets what it raises through."""
        # Not get_running_loop(), which asks the kernel for the process id in Python 3.11.
        if get_ident() == self._thread.ident:
            fn(*args)
        else:
            self.bridge.put(fn, *args)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work` on the user's loop, from the control loop. Cancelling the waiter cancels `work`."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop(self) -> None:
        """Asks loop and thread to end; what still runs there is cancelled."""
        self._stopping = True
        self.bridge.close()
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            pass  # it has ended already

    async def wait_ended(self, timeout_s: float) -> bool:
        """Whether the thread has ended within `timeout_s`, from the control loop.

        Without an executor: at the end of an interpreter, where local tests may end, there is none any more.
        """
        done, _ = await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=timeout_s)
        if done:
            self._thread.join()
        return bool(done)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            logger.error("A task has failed at the replica's end.", exc_info=task.exception())
