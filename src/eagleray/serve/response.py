"""What `handle.remote()` returns: a call in flight, to be awaited, waited for, iterated, cancelled or passed on.

A call lives on the runtime's loop; its outcome is written there once and may be read by any thread. Waiters are woken
without a lock: a waiter appends itself and then looks whether the call has ended; the end is published first and then
pops the waiters. `list.pop` is atomic, so each waiter is woken exactly once by one side or the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from eagleray.base.errors import EaglerayError, RequestCancelledError
from eagleray.routing.call import NEW, RoutedCall
from eagleray.serve.context import RequestContext
from eagleray.serve.runtime import Runtime
from eagleray.wire import codec
from eagleray.wire.messages import CallHead, ErrorHead, ReplyHead

R = TypeVar("R")

PENDING, BODY, VALUE, REMOTE_ERROR, ERROR = range(5)
"""Outcomes: nothing yet, bytes to be decoded, decoded, bytes of a user's exception, exception."""

_GRANT_BYTES = 64 * 1024
"""Consumed bytes of a stream are acknowledged in lots of this size: a sixteenth of the window, one hand-over a lot."""


class HandleCall(RoutedCall):
    """One call of a handle. All methods but those under "from any thread" run on the runtime's loop."""

    __slots__ = ("__weakref__", "outcome", "parent", "payload", "runtime", "waiters", "watchers")

    def __init__(
        self, runtime: Runtime, key: str, head: CallHead, body: bytes, parent: RequestContext
    ) -> None:
        super().__init__(key, head, body)
        self.runtime = runtime
        self.parent = parent
        self.outcome = PENDING
        self.payload: Any = None
        self.waiters: list[Callable[[], object]] = []
        self.watchers = 0

    # ---- life ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Goes to the router, as a child of the request that makes it."""
        if self.adopt():
            self.runtime.submit_here(self)

    def submit(self) -> None:
        """Its arguments, which had to be waited for, are here: the call goes out."""
        self.runtime.submit_here(self)

    def adopt(self) -> bool:
        """Makes this call a child of the request that makes it; False when that has been cancelled already."""
        parent = self.parent
        if parent.children is not None:
            if parent.cancelled:
                self.on_failed(RequestCancelledError(self.head.request_id))
                return False
            parent.children.add(self)
        return True

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        if end:
            self.settle(BODY, body)
        elif self.stream is not None:
            self.payload = self.stream.gather(head.size, body)

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        self.settle(BODY, self.payload)

    def on_failed(self, error: EaglerayError) -> None:
        self.settle(ERROR, error)

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.settle(REMOTE_ERROR, body)

    def settle(self, outcome: int, payload: Any) -> None:
        """Publishes the end and wakes whoever waits."""
        if self.outcome != PENDING:
            return
        self.payload = payload
        self.outcome = outcome
        children = self.parent.children
        if children is not None:
            children.discard(self)
        self.body = b""
        if self.waiters:
            self.wake()

    def abandon(self) -> None:
        """Cancels the call, wherever it is."""
        if self.outcome != PENDING:
            return
        if self.state == NEW:
            self.on_failed(RequestCancelledError(self.head.request_id))
        else:
            self.cancel()

    def _consumed(self, count: int) -> None:
        if self.stream is not None:
            self.stream.consumed(count)

    # ---- from any thread -------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a waiter has something to look at."""
        return self.outcome != PENDING

    def wake(self) -> None:
        waiters = self.waiters
        while waiters:
            try:
                waiter = waiters.pop()
            except IndexError:
                return
            waiter()

    def add_waiter(self, waiter: Callable[[], object]) -> None:
        """`waiter` is called once, on the runtime's thread or here, when there is something to look at."""
        self.waiters.append(waiter)
        if self.ready:
            self.wake()

    def until_ready(self) -> Generator[Any, None, None]:
        """Suspends the running task until `ready`. A cancelled task cancels the call, unless others wait for it."""
        loop = asyncio.get_running_loop()
        runtime = self.runtime
        future = loop.create_future()
        if loop is runtime.loop:
            self.add_waiter(partial(_release, future))
        else:
            self.add_waiter(partial(runtime.bridge_to(loop).put, _release, future))
        self.watchers += 1
        try:
            yield from future
        except asyncio.CancelledError:
            if self.watchers == 1:
                runtime.post(self.abandon)
            raise
        finally:
            self.watchers -= 1

    def block(self, timeout_s: float | None) -> bool:
        """Blocks this thread until `ready`; False when `timeout_s` has passed first."""
        lock = threading.Lock()
        lock.acquire()
        self.add_waiter(partial(_unlock, lock))
        return lock.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))

    def read(self) -> Any:
        """The decoded result; raises what the call ended with."""
        outcome = self.outcome
        if outcome == VALUE:
            return self.payload
        if outcome == BODY:
            value = codec.load_value(self.payload)
            self.payload = value
            self.outcome = VALUE
            return value
        if outcome == REMOTE_ERROR:
            self.payload = codec.load_error(self.payload)
            self.outcome = ERROR
        error: BaseException = self.payload
        try:
            raise error.with_traceback(None)
        finally:
            # As futures do: its traceback would refer to this call, which refers to it, and everything in the frames
            # between, borrowed memory too, would wait for the garbage collector.
            del self, error


class StreamCall(HandleCall):
    """A call whose result comes item by item, each in a message of its own; `read` is not for it."""

    __slots__ = ("items", "taken_bytes")

    def __init__(
        self, runtime: Runtime, key: str, head: CallHead, body: bytes, parent: RequestContext
    ) -> None:
        super().__init__(runtime, key, head, body, parent)
        self.items: deque[bytes] = deque()
        self.taken_bytes = 0

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.on_chunk(body, end)

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        if chunk:
            self.items.append(chunk)
        if end:
            self.settle(VALUE, None)
        elif self.waiters:
            self.wake()

    @property
    def ready(self) -> bool:
        return bool(self.items) or self.outcome != PENDING

    def take(self) -> bytes | None:
        """The next item, or None at the end; raises what the call ended with. Only when `ready`."""
        ended = self.outcome != PENDING
        if self.items:
            item = self.items.popleft()
            if not ended:
                self.taken_bytes += len(item)
                if self.taken_bytes >= _GRANT_BYTES:
                    self.runtime.post(self._consumed, self.taken_bytes)
                    self.taken_bytes = 0
            return item
        if self.outcome != VALUE:
            self.read()
        return None


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _unlock(lock: threading.Lock) -> None:
    lock.release()


def refuse_blocking(what: str) -> None:
    """RuntimeError when this thread runs an event loop, which blocking would stop."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{what} would block the event loop that runs here; use `await` or `async for` instead."
        )


class _Response(Generic[R]):
    """What the two kinds of response have in common."""

    __slots__ = ("_call", "_cancelled")

    def __init__(self, call: Any) -> None:
        self._call = call
        self._cancelled = False

    @property
    def request_id(self) -> str:
        """The id of the request that this call belongs to."""
        request_id: str = self._call.head.request_id
        return request_id

    @property
    def by_reference(self) -> bool:
        """Always False: values travel by value."""
        return False

    def cancel(self) -> None:
        """Cancels the call; without effect once it has ended. Never raises; may be repeated, from any thread."""
        self._cancelled = True
        call = self._call
        if call.outcome == PENDING:
            call.runtime.post(call.abandon)

    def cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return self._cancelled

    def __reduce__(self) -> NoReturn:
        raise EaglerayError(
            f"A {type(self).__name__} cannot be pickled: pass it as a direct positional or keyword argument of "
            f"another `.remote()` call, not inside a list, dict or object. Or await it first."
        )


class DeploymentResponse(_Response[R]):
    """The future result of one call; await it, as often as you like, or call `result()` in a thread without a loop."""

    __slots__ = ()
    _call: HandleCall

    def __await__(self) -> Generator[Any, None, R]:
        call = self._call
        if call.outcome == PENDING:
            yield from call.until_ready()
        try:
            result: R = call.read()
            return result
        finally:
            del self, call  # see `read`

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> R:
        """Blocks for the result. TimeoutError after `timeout_s`, which does not cancel the call."""
        if not _skip_asyncio_check:
            refuse_blocking("`result()`")
        call = self._call
        if call.outcome == PENDING and not call.block(timeout_s) and call.outcome == PENDING:
            raise TimeoutError(f"Request {self.request_id} had no result after {timeout_s} s.")
        try:
            result: R = call.read()
            return result
        finally:
            del self, call  # see `read`

    async def _to_object_ref(self) -> NoReturn:
        """Always raises: results are values."""
        self._to_object_ref_sync()

    def _to_object_ref_sync(self) -> NoReturn:
        raise RuntimeError(
            "There are no ObjectRefs: results are values here, and ObjectRefs need the Ray engine. Pass the response "
            "itself on as an argument, or await it."
        )


class DeploymentResponseGenerator(_Response[R]):
    """The items of a generator method, each as soon as it is produced; iterate with `for` or `async for`."""

    __slots__ = ()
    _call: StreamCall

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        call = self._call
        while (
            not call.items and call.outcome == PENDING
        ):  # a wake-up may be for an item that has been taken already
            await Until(call)
        item = call.take()
        if item is None:
            raise StopAsyncIteration
        result: R = codec.load_value(item)
        return result

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        refuse_blocking("Iterating with `for`")
        call = self._call
        while not call.ready:
            call.block(None)
        item = call.take()
        if item is None:
            raise StopIteration
        result: R = codec.load_value(item)
        return result

    def __await__(self) -> NoReturn:
        raise TypeError("A DeploymentResponseGenerator cannot be awaited; iterate over it with `async for`.")

    def result(self, *, timeout_s: float | None = None) -> NoReturn:
        raise TypeError("A DeploymentResponseGenerator has no single result; iterate over it with `for`.")

    def __del__(self) -> None:
        # An abandoned stream would hold its slot, and its replica's generator, for ever.
        call = getattr(self, "_call", None)
        if call is not None and call.outcome == PENDING:
            call.runtime.post(call.abandon)


class Until:
    """Awaits `call.ready` from a coroutine."""

    __slots__ = ("_call",)

    def __init__(self, call: HandleCall) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, None]:
        return self._call.until_ready()


__all__ = ["DeploymentResponse", "DeploymentResponseGenerator", "HandleCall", "StreamCall", "Until"]
