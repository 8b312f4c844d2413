"""A call while the replica works on it: what is common to HTTP and Python calls.

A call comes in on the user's loop, where it takes a slot, and is answered there; only sync user code runs elsewhere,
in a thread. Whatever user code does, exactly one of `_answer`, `_finish` and `_fail` runs on the loop, and gives the
slot back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from inspect import isawaitable, iscoroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from eagleray.base.access_log import AccessLog
from eagleray.http.outflow import JOINED, Outflow, Put, Turns
from eagleray.replica.metrics import ReplicaMetrics, Route, pattern_of, route_of
from eagleray.replica.slots import Slots
from eagleray.replica.threads import Threads
from eagleray.serve.context import RequestContext, _serve_request_context
from eagleray.wire.messages import ErrorHead, Headers, ReplyHead
from eagleray.wire.remote_error import encodable
from eagleray.wire.streams import Incoming

if TYPE_CHECKING:
    from eagleray.replica.callable import UserCode
    from eagleray.replica.python_call import PythonCall

logger = logging.getLogger("ray.serve")

NO_HEADERS: Headers = []


class Floor:
    """What all calls of a replica share: the loop, slots, threads and the user's code.

    `put` runs a function on the loop, from any thread. `running` holds the calls whose user code runs on the loop:
    asyncio itself would not keep them alive.
    """

    __slots__ = (
        "access",
        "base_context",
        "counts",
        "is_timed",
        "loop",
        "metrics",
        "put",
        "reserved",
        "running",
        "slots",
        "stopping",
        "threads",
        "turns",
        "user",
    )

    def __init__(
        self,
        user: UserCode,
        loop: asyncio.AbstractEventLoop,
        slots: Slots,
        threads: Threads,
        put: Put,
        metrics: ReplicaMetrics,
        base_context: Context | None = None,
    ) -> None:
        self.user = user
        self.loop = loop
        self.slots = slots
        self.threads = threads
        self.put = put
        self.metrics = metrics
        self.counts = metrics.registry.enabled
        self.running: set[Call] = set()
        self.reserved: set[PythonCall] = set()
        """Those that hold a slot for arguments which may never come."""
        self.base_context = base_context or Context()
        self.stopping = False
        self.access: AccessLog | None = None
        """None: nobody wants a line about each call, and none costs anything."""
        self.is_timed = self.counts
        """Whether anybody asks when calls began."""
        self.turns = Turns()

    def log_calls(self, log: AccessLog | None) -> None:
        """Each call that ends from now on leaves a line in `log`."""
        self.access = log
        self.is_timed = self.counts or log is not None


class Call:
    """One call that holds a slot. `answer`, `begin`, `finish` and `fail` may be called from any thread, once in all."""

    __slots__ = (
        "asgi_scope",
        "begun_at",
        "cancelled",
        "context",
        "floor",
        "in_thread",
        "incoming",
        "outflow",
        "started",
        "status",
        "task",
        "took_us",
    )

    def __init__(self, floor: Floor, incoming: Incoming) -> None:
        self.floor = floor
        self.incoming = incoming
        self.cancelled = False
        self.in_thread = False
        self.started = False
        self.begun_at = 0.0
        """When user code got it; 0: it has not, or it is nobody's traffic, so that it is not counted."""
        self.took_us = 0
        self.asgi_scope: dict[str, Any] | None = None
        """What an ASGI application has got."""
        self.status = 0
        self.context: RequestContext | None = None
        self.task: asyncio.Task[None] | None = None
        self.outflow: Outflow | None = None
        incoming.on_cancel = self.on_cancel

    request_context = RequestContext

    def make_context(self, is_http: bool) -> RequestContext:
        """The request context that user code sees."""
        head = self.incoming.head
        context = self.request_context(
            head.request_id,
            head.route,
            head.app,
            deadline=head.deadline,
            traceparent=head.traceparent,
            multiplexed_model_id=head.multiplexed_model_id,
            session_id=head.session_id,
            is_http_request=is_http,
            children=set(),
        )
        context.cancelled = self.cancelled
        self.context = context
        return context

    def run(self, work: Coroutine[Any, Any, None], request: RequestContext) -> None:
        """Runs `work` as this call's task. It begins with `enter` and answers in any case."""
        floor = self.floor
        floor.running.add(self)
        context = floor.base_context.copy()
        context.run(_serve_request_context.set, request)
        self.started = False
        if floor.is_timed and not self.begun_at:
            self.begun_at = monotonic()
        self.task = floor.loop.create_task(work, name="call", context=context)

    def run_in_thread(self, work: Callable[[], None]) -> None:
        """Runs `work`, which answers in any case, in a thread."""
        self.in_thread = True
        floor = self.floor
        if floor.is_timed and not self.begun_at:
            self.begun_at = monotonic()
        floor.threads.submit(work)

    def enter(self) -> None:
        """The task's first step. Raises CancelledError when the call was cancelled before it."""
        self.started = True
        if self.cancelled:
            raise asyncio.CancelledError

    def enter_with(self, result: Any) -> None:
        """As `enter`; a coroutine that will not be awaited is closed."""
        if self.cancelled and iscoroutine(result):
            result.close()
        self.enter()

    def continue_on_loop(self, result: Any) -> None:
        """What a sync method has returned needs the loop."""
        assert self.context is not None
        self.run(self._finish_on_loop(result), self.context)

    async def _finish_on_loop(self, result: Any) -> None:
        """A task's root."""
        try:
            self.enter_with(result)
            await self.respond(await result if isawaitable(result) else result)
        except BaseException as error:  # whatever user code raises is the caller's
            self.failed(error)
        finally:
            self.ended()

    async def respond(self, result: Any) -> None:
        """Answers with what user code has given."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """Answers for user code that has raised; never raises itself."""
        raise NotImplementedError

    def ended(self) -> None:
        """On the loop: user code has returned."""
        self.floor.running.discard(self)
        self.task = None
        context = self.context
        if context is not None:
            context.finish()
            if context.held is not None and not self.in_thread:
                context.release()

    # ---- cancellation ----------------------------------------------------------------------------------------

    def on_cancel(self) -> None:
        """The caller has cancelled, or is gone. The answer follows when user code has stopped."""
        self.cancelled = True
        if self.outflow is not None:
            self.outflow.flush()
        self.cancel()

    def cancel(self) -> None:
        """On the loop: stops user code, and the calls that it has made."""
        self.cancelled = True
        if self.context is not None:
            self.context.cancel_children()
        # A task that is cancelled before its first step never runs, so it could not answer: `enter` cancels it then.
        if self.task is not None and self.started:
            self.task.cancel()

    # ---- answers, from user code -----------------------------------------------------------------------------

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer."""
        self.floor.put(self._answer, status, headers, body)

    def begin(self, status: int, headers: Headers, first: bytes = b"") -> Outflow:
        """The beginning of an answer that goes on through the returned way out; `first` is its first chunk."""
        floor = self.floor
        put = floor.put if self.in_thread else None
        self.outflow = outflow = Outflow(self.incoming, put, floor.turns)
        if len(first) <= JOINED:
            self.floor.put(self._begin, status, headers, first)
        else:
            self.floor.put(self._begin, status, headers, b"")
            outflow.push(first)
        return outflow

    def finish(self) -> None:
        """The end of an answer that was begun."""
        self.floor.put(self._finish)

    def fail(self, code: str, message: str, body: bytes = b"") -> None:
        """The end without an answer, or without the rest of it."""
        self.floor.put(self._fail, code, message, body)

    def fail_cancelled(self) -> None:
        """The answer to a cancel, by the caller or because the replica's time to stop is over."""
        if self.floor.stopping:
            self.fail("replica_died", "The replica was stopped before the request had ended.")
        else:
            self.fail("cancelled", "The call was cancelled.")

    # ---- answers, on the loop ---------------------------------------------------------------------------------

    @property
    def route(self) -> Route:
        """What it is counted under."""
        return route_of(self.incoming.head.route, self.asgi_scope)

    def count_error(self, kind: str) -> None:
        """From any thread, before the answer: user code has raised an exception of that name."""
        self.floor.put(self._count_error, kind)

    def _count_error(self, kind: str) -> None:
        if self.begun_at:
            self.floor.metrics.failed(self.route, kind)

    def log_to(self, log: AccessLog, code: str, now: float) -> None:
        """Leaves a line about this call, which has ended now; `code` is why it has failed."""
        line = self.describe(code)
        if line is not None:
            method, route, status = line
            head = self.incoming.head
            client = head.http.client if head.http is not None else None
            log.add(method, route, status, self.begun_at or now, now, head, client)

    def describe(self, code: str) -> tuple[str, str, int | str] | None:
        """What the access log says of this call: method, route and status; None for no line."""
        return None

    def _leave(self, code: str = "") -> int:
        """The call has ended; `code` is why it has failed. Returns how many others are here."""
        floor = self.floor
        if floor.is_timed:
            now = monotonic()
            if self.begun_at and floor.counts:
                route = self.incoming.head.route if self.asgi_scope is None else self.route
                self.took_us = floor.metrics.ended(route, self.begun_at, now)
            if floor.access is not None:
                self.log_to(floor.access, code, now)
        if self.in_thread:
            self.in_thread = False
            floor.threads.done()
            context = self.context
            if context is not None and context.held is not None and self.task is None:
                context.release()
        return floor.slots.release()

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        load = self._leave()
        try:
            pattern = "" if self.asgi_scope is None else pattern_of(self.asgi_scope)
            self.incoming.reply(ReplyHead(load, status, headers, 0, self.took_us, pattern), body)
        except Exception as error:  # a user's status or header that no head can hold: the caller still waits
            request_id = self.incoming.head.request_id
            logger.error("Request %s has failed: its answer cannot be sent.", request_id, exc_info=error)
            self.incoming.fail(
                ErrorHead("internal", f"The answer cannot be sent: {type(error).__name__}.", load)
            )

    def _begin(self, status: int, headers: Headers, first: bytes) -> None:
        self.status = status
        took_us = int(1e6 * (monotonic() - self.begun_at)) if self.begun_at else 0
        head = ReplyHead(self.floor.slots.ongoing, status, headers, 0, took_us, pattern_of(self.asgi_scope))
        self.incoming.reply(head, first, False)

    def _finish(self) -> None:
        self._leave()
        self.incoming.send(b"", True)

    def _fail(self, code: str, message: str, body: bytes = b"") -> None:
        if code == "cancelled" and self.begun_at:
            self.floor.metrics.cancelled(self.route)
        load = self._leave(code)
        try:
            self.incoming.fail(ErrorHead(code, message, load), body)
        except UnicodeEncodeError:  # a user's text
            self.incoming.fail(ErrorHead(code, encodable(message, len(message)), load), body)
