"""`handle.broadcast`: one call to every replica that runs, and their results together.

A broadcast is itself a call of the handle, which no router sees: it is a child of the request that makes it, may have
responses among its arguments, and ends when the last of its calls has. These are pinned (`routing.pinned`).
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any

from eagleray.base.errors import DeploymentUnavailableError, EaglerayError, ReplicaUnavailableError
from eagleray.base.ids import DeploymentID
from eagleray.routing.pinned import PinnedCall
from eagleray.routing.target import Target
from eagleray.serve.context import NO_REQUEST, RequestContext
from eagleray.serve.response import (
    ERROR,
    PENDING,
    REMOTE_ERROR,
    VALUE,
    HandleCall,
    Until,
    refuse_blocking,
)
from eagleray.serve.runtime import Runtime
from eagleray.wire.messages import CallHead
from eagleray.wire.parts import Shared, inline


class Broadcast(HandleCall):
    """The calls to all replicas. `first` ends with the first of them that fails, and with the last one at the latest.

    On the runtime's loop; read once it has ended.
    """

    __slots__ = ("calls", "first", "missing")

    def __init__(
        self, runtime: Runtime, key: str, head: CallHead, body: bytes, parent: RequestContext
    ) -> None:
        super().__init__(runtime, key, head, body, parent)
        self.calls: list[_Member] = []
        self.missing = 0
        self.first = HandleCall(runtime, key, head, b"", NO_REQUEST)

    def begin(self) -> None:
        if self.adopt():
            self.submit()

    def submit(self) -> None:
        self.runtime.spread(self.key, self)

    def spread(self, targets: list[Target]) -> None:
        """Sends a call to each of the replicas."""
        if self.outcome != PENDING:
            return
        if not targets:
            self._fail("it has no running replica")
            return
        body, self.body = self.body, b""
        if type(body) is Shared:  # it can be lent once
            body = inline(body)
        self.calls = calls = [_Member(self, body) for _ in targets]
        self.missing = len(calls)
        for call, target in zip(tuple(calls), targets, strict=True):
            call.pin(target)

    def _fail(self, reason: str) -> None:
        self.on_failed(DeploymentUnavailableError(DeploymentID.parse(self.key), reason))

    def ended(self, call: _Member, *, gone: bool) -> None:
        """One of the calls has ended. `gone`: its replica did not run any more, so there is nothing to miss."""
        self.missing -= 1
        if gone:
            self.calls.remove(call)
        elif call.outcome in (ERROR, REMOTE_ERROR):
            self.first.settle(VALUE, None)
        if self.missing:
            return
        if self.calls:
            self.settle(VALUE, None)
        else:
            self._fail("its replicas have gone")

    def settle(self, outcome: int, payload: Any) -> None:
        super().settle(outcome, payload)
        self.first.settle(outcome, payload)

    def abandon(self) -> None:
        super().abandon()
        for call in tuple(self.calls):
            call.abandon()

    def collect(self, return_exceptions: bool) -> list[Any]:
        """The results, from any thread. The exceptions of calls too, or the first one is raised."""
        if self.outcome != PENDING:
            self.read()
        calls = tuple(self.calls)
        if not return_exceptions:
            for call in calls:
                if call.outcome in (ERROR, REMOTE_ERROR):
                    call.read()
        results = []
        for call in calls:
            try:
                results.append(call.read())
            except Exception as error:  # the user's, from a replica or from unpickling
                if not return_exceptions:
                    raise
                results.append(error)
        return results


class _Member(PinnedCall, HandleCall):
    """The call to one replica."""

    __slots__ = ("broadcast", "gone")

    def __init__(self, broadcast: Broadcast, body: bytes) -> None:
        HandleCall.__init__(self, broadcast.runtime, broadcast.key, copy(broadcast.head), body, NO_REQUEST)
        self.broadcast = broadcast
        self.gone = False

    def on_failed(self, error: EaglerayError) -> None:
        self.gone = isinstance(error, ReplicaUnavailableError)
        super().on_failed(error)

    def settle(self, outcome: int, payload: Any) -> None:
        if self.outcome == PENDING:
            super().settle(outcome, payload)
            self.broadcast.ended(self, gone=self.gone)


class DeploymentBroadcastResponse:
    """The results of all replicas that ran when `broadcast` was called, in no particular order.

    One that has gone before it took the call, in the course of an update for instance, is left out.
    """

    __slots__ = ("_broadcast",)

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """Blocks for one result per replica. Raises the first exception, unless they are to be among the results.

        TimeoutError after `timeout_s`, which cancels nothing: it may be asked again.
        """
        refuse_blocking("`results()`")
        call = self._waited_for(timeout_s, return_exceptions)
        if call.outcome == PENDING and not call.block(timeout_s) and call.outcome == PENDING:
            raise TimeoutError(self._late(timeout_s))
        return self._broadcast.collect(return_exceptions)

    async def results_async(
        self, *, timeout_s: float | None = None, return_exceptions: bool = False
    ) -> list[Any]:
        """As `results`, for coroutines."""
        call = self._waited_for(timeout_s, return_exceptions)
        if call.outcome == PENDING:
            call.watchers += 1  # so that whoever stops waiting is never the last, whose going cancels
            try:
                async with asyncio.timeout(timeout_s):
                    await Until(call)
            except TimeoutError:
                raise TimeoutError(self._late(timeout_s)) from None
            finally:
                call.watchers -= 1
        return self._broadcast.collect(return_exceptions)

    def _waited_for(self, timeout_s: float | None, return_exceptions: bool) -> HandleCall:
        if timeout_s is not None and timeout_s < 0:
            raise ValueError(f"timeout_s must be None or not negative, got {timeout_s!r}.")
        return self._broadcast if return_exceptions else self._broadcast.first

    def _late(self, timeout_s: float | None) -> str:
        broadcast = self._broadcast
        return (
            f"Timed out waiting for broadcast results: {broadcast.missing} of {len(broadcast.calls)} replicas of "
            f"{DeploymentID.parse(broadcast.key)} had not answered after {timeout_s} s."
        )

    def __repr__(self) -> str:
        return "DeploymentBroadcastResponse()"
