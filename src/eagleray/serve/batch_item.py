"""Callers of a batched function: one object each, and what a batch of them is called with and runs under.

A caller waits for one future, or iterates over its slice of a stream. The items of a batch are given to the body as a
list for each parameter, and their requests are made into one request context.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from eagleray.serve.context import (
    NO_REQUEST,
    RequestContext,
    _serve_batch_request_context,
    _serve_request_context,
    process,
)

if TYPE_CHECKING:
    from eagleray.base.spans import Span
    from eagleray.serve.batch_queue import BatchQueue

_END = (StopIteration, StopAsyncIteration)

MOST_UNREAD = 16
"""Rows that a caller of a stream may be behind; its batch waits for it then."""

_ROW_TURNS = 2
"""Turns of the loop after each row of a stream: its readers take it and write it, then the loop sends it."""


class Item:
    """A caller that waits for one result."""

    __slots__ = ("args", "arrived", "future", "kwargs", "owner", "queue", "request")

    def __init__(
        self,
        queue: BatchQueue,
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: RequestContext,
    ) -> None:
        self.queue = queue
        self.owner = owner
        self.args = args
        self.kwargs = kwargs
        self.request = request
        self.arrived = time.monotonic()
        self.future: asyncio.Future[Any] = queue.loop.create_future()

    @property
    def is_gone(self) -> bool:
        return self.future.done()

    def leave(self) -> None:
        """The caller does not wait any more, or has got an exception."""
        if self.future.cancelled():
            self.queue.former.note_gone()

    def resolve(self, value: Any) -> None:
        if not self.future.done():
            if isinstance(value, BaseException):
                self.reject(value)
            else:
                self.future.set_result(value)

    def reject(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
            return
        if isinstance(error, StopIteration):  # no future takes it
            error = RuntimeError(f"A batched function gave {error!r} for this item.")
        self.future.set_exception(error)


class StreamItem(Item):
    """A caller that iterates over its slice of a stream of batches. What it has not read yet is kept for it.

    Its batch asks `is_behind` after each row, and awaits `room` as long as that holds.
    """

    __slots__ = ("_error", "_error_at", "_has_ended", "_left", "_reader", "_room", "_values")

    def __init__(
        self,
        queue: BatchQueue,
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: RequestContext,
    ) -> None:
        super().__init__(queue, owner, args, kwargs, request)
        self._values: deque[Any] = deque()
        self._room: asyncio.Future[None] | None = None
        self._reader: weakref.ref[AsyncGenerator[Any, None]] | None = None
        self._has_ended = False
        self._left = False
        self._error: BaseException | None = None
        self._error_at: TracebackType | None = None

    @property
    def is_gone(self) -> bool:
        """Nobody wants more: the caller has left, or its stream has ended."""
        return self._left or self._has_ended

    @property
    def is_behind(self) -> bool:
        """It wants more, but has not read what it was given."""
        return len(self._values) >= MOST_UNREAD and not self.is_gone

    async def room(self) -> None:
        """For its batch only: until the caller reads or leaves."""
        self._room = self.queue.loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def push(self, value: Any) -> None:
        if value in _END if isinstance(value, type) else isinstance(value, _END):
            self.end()
        elif isinstance(value, BaseException):
            self.reject(value)
        elif not self.is_gone:
            self._values.append(value)
            self._wake()

    def end(self) -> None:
        self._has_ended = True
        self._wake()

    def reject(self, error: BaseException) -> None:
        if not self.is_gone:
            self._error, self._error_at = error, error.__traceback__
            self.end()

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _leave(self) -> None:
        if not self.is_gone:
            self._left = True
            self.queue.former.note_gone()
        self._values.clear()
        self._make_room()

    def _dropped(self, _: object) -> None:
        """What the caller got was collected, which may happen anywhere, or on any thread.

        One that never began to iterate leaves in no other way: Python does not run the body of such a generator.
        """
        if not self.is_gone and not self.queue.loop.is_closed():
            self.queue.loop.call_soon_threadsafe(self._leave)

    def iterate(self) -> AsyncGenerator[Any, None]:
        """What the caller gets."""
        reader = self._iterate()
        self._reader = weakref.ref(reader, self._dropped)
        return reader

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        values = self._values
        try:
            while True:
                while values:
                    value = values.popleft()
                    if self._room is not None:
                        self._make_room()
                    yield value
                if self._has_ended:
                    break
                if self.future.done():
                    self.future = self.queue.loop.create_future()
                await self.future
            if self._error is not None:
                # Its other callers raise the same object: none sees the frames of another.
                raise self._error.with_traceback(self._error_at)
        finally:
            self._leave()


def reject_all(items: Sequence[Item], error: BaseException) -> None:
    for item in items:
        item.reject(error)


async def let_read(items: Sequence[Item]) -> None:
    """After a row of a stream: gives its readers a turn, and waits for those that are too far behind.

    A body need not await anything, so it would keep the loop and make rows that nobody reads.
    """
    for _ in range(_ROW_TURNS):
        await asyncio.sleep(0)
    for item in items:
        assert isinstance(item, StreamItem)
        while item.is_behind:
            await item.room()


def columns_of(items: Sequence[Item]) -> tuple[Iterator[list[Any]], dict[str, list[Any]]]:
    """A list for each parameter."""
    first = items[0]
    if len(first.args) == 1:
        columns: Iterator[list[Any]] = iter(([item.args[0] for item in items],))
    else:
        columns = map(list, zip(*(item.args for item in items), strict=True))
    if not first.kwargs:
        return columns, {}
    return columns, {name: [item.kwargs[name] for item in items] for name in first.kwargs}


def enter_batch(requests: list[RequestContext]) -> Span | None:
    """In the context of a batch; its span, which the caller ends, where one is recorded."""
    if requests[0] is NO_REQUEST:
        return None
    context = _context_of(requests)
    _serve_request_context.set(context)
    _serve_batch_request_context.set(requests)
    return None if process.tracing is None else process.tracing.batch(requests, context)


def _context_of(requests: list[RequestContext]) -> RequestContext:
    """What a batch sees as its request.

    Id and trace are those of its oldest item, so that logs and child calls can be followed from at least one caller;
    the model is that of all. Child calls end with no caller (no `children`) and have until the last one's deadline.
    """
    first = requests[0]
    deadlines = [request.deadline for request in requests]
    return RequestContext(
        first.request_id,
        first.route,
        first.app_name,
        deadline=max(deadlines) if all(deadlines) else 0.0,
        traceparent=first.traceparent,
        multiplexed_model_id=first.multiplexed_model_id,
        session_id=first.session_id if len(requests) == 1 else "",
        is_http_request=first.is_http_request,
    )
