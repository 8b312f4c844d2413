"""One request on its way to a replica: a small state machine that owns its slot.

    NEW -> QUEUED -> SENT -> DONE         QUEUED, SENT -> (cancel) -> DONE, ABANDONED -> DONE

A sent call keeps its slot until the replica has answered, also when nobody waits for the answer any more: only then
is the replica really free. The proxy's exchange and the handle's call are subclasses; there is no second object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eagleray.base.errors import (
    EaglerayError,
    ReplicaDiedError,
    ReplicaUnavailableError,
    RequestCancelledError,
    RequestTimeoutError,
)
from eagleray.rpc.client import CallHandler, ClientStream
from eagleray.wire.messages import DRAINING, REJECTED, USER, CallHead, ErrorHead, ReplyHead

if TYPE_CHECKING:
    from eagleray.routing.pool import Pool
    from eagleray.routing.target import Target

NEW, QUEUED, SENT, ABANDONED, DONE = range(5)
UNCOUNTED, COUNTED, MEASURED = range(3)
"""Whether the router's metrics know of the call, and are to know its times."""


class RoutedCall(CallHandler):
    """Subclass and override the `on_...` methods; every call ends by exactly one terminal callback.

    Terminal are: `on_result` or `on_chunk` with `end`, `on_failed`, `on_user_error`. All run on the router's loop.
    `body` may be the first chunk of an upload (`body_complete=False`); the rest goes through `stream.send` once
    `on_accepted` has been called, never before: until then the replica may still refuse and another one be tried.
    """

    __slots__ = (
        "body",
        "body_complete",
        "came_at",
        "head",
        "key",
        "line",
        "measured",
        "pool",
        "sent_at",
        "since",
        "state",
        "stream",
        "target",
    )

    line: str
    """The line that it waits in (`routing.waiting`); set when it waits."""

    def __init__(self, key: str, head: CallHead, body: bytes = b"", body_complete: bool = True) -> None:
        self.key = key
        self.head = head
        self.body = body
        self.body_complete = body_complete
        self.stream: ClientStream | None = None
        self.state = NEW
        self.pool: Pool | None = None
        self.target: Target | None = None
        self.sent_at = 0.0
        self.came_at = 0.0
        """When a proxy got it; 0 for calls of handles."""
        self.measured = UNCOUNTED
        self.since = 0.0
        """Since when it waits for a replica; 0 as long as it never has."""

    # ---- to override -----------------------------------------------------------------------------------------

    @property
    def hints(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Arguments that a user's router is to see; None: those in `body`."""
        return None

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        """The replica's answer, or its beginning."""

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        """More of an answer that did not end with `on_result`; grant credit by `stream.consumed(len(chunk))`."""

    def on_failed(self, error: EaglerayError) -> None:
        """No answer will come: refused here, died there, timed out or cancelled."""

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        """User code raised; `body` is for `codec.load_error`."""

    # ---- for the owner ---------------------------------------------------------------------------------------

    def cancel(self, error: EaglerayError | None = None) -> None:
        """Gives up: `on_failed(error)` is called at once, with RequestCancelledError by default. Idempotent."""
        state, pool = self.state, self.pool
        if state == QUEUED:
            assert pool is not None
            pool.forget(self)
        elif state == SENT:
            self.state = ABANDONED
            if self.target is not None and self.target.record is not None:
                self.target.record.given_up(self, error)
            if self.stream is not None:
                self.stream.cancel()
        else:
            return
        if pool is not None and pool.metrics is not None:
            pool.metrics.cancelled(error.code if error is not None else "cancelled")
        self.on_failed(error or RequestCancelledError(self.head.request_id))

    def opened(self, stream: ClientStream) -> None:
        """From the thread that sends: this is the stream of the call."""
        self.stream = stream

    # ---- from the connection ---------------------------------------------------------------------------------

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        abandoned = self.state == ABANDONED
        target = self.target
        if target is not None:
            record = target.record
            if self.measured == MEASURED:
                metrics = target.pool.metrics
                assert metrics is not None
                metrics.answered(self, head.took_us)
            if record is not None:
                record.answered(self, head.status)
            if self.head.deadline:
                pool = target.pool
                pool.pace.took(pool.clock() - self.sent_at)
            if end:
                self.state = DONE
                if record is not None and record.follows:
                    record.ended(self)
                target.release(head.load)
            else:
                target.observe(head.load)
        if not abandoned:
            self.on_result(head, body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        abandoned = self.state == ABANDONED
        if end:
            self._finish()
        if not abandoned:
            self.on_chunk(chunk, end)

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        state, target, code = self.state, self.target, head.code
        if state == DONE or target is None:
            return
        if code in (REJECTED, DRAINING):
            self.target = self.stream = None
            if target.record is not None and target.record.follows:
                target.record.ended(self)
            if state == ABANDONED:
                self.state = DONE
                target.refuse(head.load, draining=code == DRAINING)
            else:
                self.state = NEW
                target.refuse(head.load, draining=code == DRAINING, retry=self)
            return
        if target.record is not None:
            target.record.failed(code)
        self._finish(head.load)
        if state == ABANDONED:
            return
        if code == USER:
            self.on_user_error(head, body)
            return
        if target.pool.metrics is not None:
            target.pool.metrics.lost(code)
        self.on_failed(_error_of(head, self))

    def _finish(self, load: int | None = None) -> None:
        self.state = DONE
        target = self.target
        if target is not None:
            if target.record is not None and target.record.follows:
                target.record.ended(self)
            target.release(load)


def _error_of(head: ErrorHead, call: RoutedCall) -> EaglerayError:
    """A remote refusal in terms of the error tree; the replica's words are kept."""
    replica = call.target.entry.replica_id if call.target else "?"
    match head.code:
        case "replica_died":
            return ReplicaDiedError(
                f"Replica {replica} of {call.key} died while it handled request {call.head.request_id}; the request "
                f"may have run and was not sent again."
            )
        case "replica_gone":
            return ReplicaUnavailableError(replica)
        case "timeout":
            return RequestTimeoutError(head.message)
        case "cancelled":
            return RequestCancelledError(call.head.request_id)
        case _:
            return EaglerayError(head.message or f"Replica {replica} failed with code '{head.code}'.")
