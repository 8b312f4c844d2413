"""Control-plane methods: a table of async functions, each call in a task that ends with the caller or the table."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.control import Message, encode
from eagleray.wire.messages import ErrorHead, ReplyHead

logger = logging.getLogger("eagleray.rpc")

ControlHandler = Callable[[bytes, Incoming], Awaitable[Message | None]]
"""Gets the body and the call. Returns the reply, or None when it has answered or streams by itself."""

_MAX_BODY = 1 << 30
"""Bytes; a deploy may carry code blobs."""


class ControlMethods:
    """Answers CONTROL calls. A handler may raise EaglerayError; its code and message reach the caller.

    When the caller cancels or is gone the handler's task is cancelled. A handler that returns None and leaves the
    call open must set `incoming.on_cancel` to its own purpose.
    """

    def __init__(self, methods: Mapping[str, ControlHandler], *, name: str = "control") -> None:
        self._methods = dict(methods)
        self._tasks = Tasks(name)
        self._closed = False

    def dispatch(self, incoming: Incoming) -> None:
        """Takes over a call of kind CONTROL."""
        handler = self._methods.get(incoming.head.method)
        if handler is None:
            known = ", ".join(sorted(self._methods))
            incoming.fail(ErrorHead("internal", f"unknown method '{incoming.head.method}' (known: {known})"))
        elif self._closed:
            incoming.fail(ErrorHead("draining", "the process is shutting down"))
        else:
            incoming.collect(_MAX_BODY, lambda payload: self._start(handler, bytes(payload), incoming))

    def _start(self, handler: ControlHandler, payload: bytes, incoming: Incoming) -> None:
        if self._closed:
            incoming.fail(ErrorHead("draining", "the process is shutting down"))
            return
        task = self._tasks.start(self._answer(handler, payload, incoming), name=incoming.head.method)
        incoming.on_cancel = _canceller(task)
        # A task that is cancelled before its first step never runs, so it cannot answer by itself.
        task.add_done_callback(lambda ended: _answer_cancelled(ended, incoming))

    async def _answer(self, handler: ControlHandler, payload: bytes, incoming: Incoming) -> None:
        method = incoming.head.method
        try:
            reply = await handler(payload, incoming)
            if reply is not None:
                incoming.reply(ReplyHead(), encode(reply))
        except EaglerayError as error:
            incoming.fail(ErrorHead(error.code, str(error)))
        except msgspec.DecodeError as error:
            incoming.fail(ErrorHead("protocol", f"malformed body of '{method}': {error}"))
        except Exception as error:
            logger.exception("control method '%s' has failed", method)
            incoming.fail(ErrorHead("internal", f"'{method}' failed: {type(error).__name__}: {error}"))

    async def close(self) -> None:
        """Cancels the handlers that run and waits for them; their callers get `cancelled`. Idempotent."""
        self._closed = True
        await self._tasks.close()


async def serve_control(methods: Mapping[str, ControlHandler], listener: socket.socket, *, name: str) -> None:
    """Answers on `listener`, which it closes, until it is cancelled: all that a small child process does."""
    control = ControlMethods(methods, name=name)
    server = Server(control.dispatch)
    await server.start(listener)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await control.close()
        await server.close()


def _canceller(task: asyncio.Task[None]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


def _answer_cancelled(task: asyncio.Task[None], incoming: Incoming) -> None:
    if task.cancelled():
        incoming.fail(ErrorHead("cancelled", f"'{incoming.head.method}' was cancelled"))
