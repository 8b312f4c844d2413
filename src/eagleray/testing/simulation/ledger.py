"""Every simulated request from its sending to its one outcome, and who ran it.

A request may fail only for a reason that the run itself has given: the death of its replica or of its proxy, a drain
that ran out of time, or an application that is not there or cannot be deployed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from eagleray.base.errors import EaglerayError, ReplicaDiedError
from eagleray.routing.call import RoutedCall
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, ReplyHead

if TYPE_CHECKING:
    from eagleray.testing.simulation.machine import Machine


_KNOWN_S = 3.0
"""Time for a table on slow links, and for those who were just coming back after the end of a controller."""


class SimCall(RoutedCall):
    """One request: tells the ledger what became of it."""

    __slots__ = ("excused", "ledger", "origin")

    def __init__(self, ledger: Ledger, key: str, origin: str, request_id: str) -> None:
        super().__init__(key, CallHead(CallKind.PYTHON, request_id=request_id))
        self.ledger = ledger
        self.origin = origin
        self.excused = not ledger.must_answer(key)

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.ledger.ended(self, None)

    def on_failed(self, error: EaglerayError) -> None:
        self.ledger.ended(self, error)

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.ledger.ended(self, EaglerayError("user code raised, and there is none"))


class Ledger:
    """Belongs to one run."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._open: dict[str, SimCall] = {}
        self._runs: dict[str, str] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.served: set[str] = set()
        """Keys of deployments that have been up, and that nobody has deleted since: they must answer."""
        self._known: dict[str, asyncio.TimerHandle] = {}
        self.sent = self.succeeded = self.failed = 0

    def begin(self, key: str, origin: str) -> SimCall:
        """A new request of the proxy or driver `origin`, to be submitted by the caller."""
        self.sent += 1
        call = SimCall(self, key, origin, f"request-{self.sent}")
        self._open[call.head.request_id] = call
        return call

    def executed(self, request_id: str, ref: str) -> None:
        """A replica has begun to work on it."""
        if request_id in self._runs:
            self._machine.violated(f"{request_id} ran on {self._runs[request_id]} and again on {ref}")
        self._runs[request_id] = ref

    def ended(self, call: SimCall, error: EaglerayError | None) -> None:
        if self._open.pop(call.head.request_id, None) is None:
            self._machine.violated(f"{call.head.request_id} ended twice")
        if error is None:
            self.succeeded += 1
        else:
            self.failed += 1
            self._judge(call, error)
        for origin, done in self._waiting:
            if not self._of(origin) and not done.done():
                done.set_result(None)

    def _judge(self, call: SimCall, error: EaglerayError) -> None:
        machine = self._machine
        machine.trace(f"{call.head.request_id} of {call.origin} failed: {error}")
        if call.origin in machine.reasons or call.excused or not self.must_answer(call.key):
            return
        if isinstance(error, ReplicaDiedError):
            ref = self._runs.get(call.head.request_id, "")
            if call.target is not None:
                ref = f"replica-{call.target.entry.replica_id}"
            if ref in machine.reasons:
                return
            machine.violated(
                f"{call.head.request_id} was lost with {ref}, which had no reason to end: {error}"
            )
            return
        machine.violated(f"{call.head.request_id} for {call.key} failed: {type(error).__name__}: {error}")

    def reached(self, key: str) -> None:
        """The deployment is up: routers know of it within `_KNOWN_S`."""
        if key not in self.served and key not in self._known:
            self._known[key] = asyncio.get_running_loop().call_later(_KNOWN_S, self._serve, key)

    def _serve(self, key: str) -> None:
        del self._known[key]
        self.served.add(key)

    def gone(self, key: str) -> None:
        """The deployment is deleted, or may be."""
        self.served.discard(key)
        if key in self._known:
            self._known.pop(key).cancel()

    def must_answer(self, key: str) -> bool:
        """Whether a request for this deployment may not fail."""
        return key in self.served and key.partition("#")[0] in self._machine.acknowledged

    def _of(self, origin: str) -> list[SimCall]:
        return [call for call in self._open.values() if call.origin == origin]

    async def answered(self, origin: str) -> None:
        """Returns once no request of `origin` is open."""
        if self._of(origin):
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((origin, done))
            try:
                await done
            finally:
                self._waiting = [one for one in self._waiting if one[1] is not done]

    def open(self, key: str) -> int:
        """How many requests for this deployment have not ended."""
        return sum(call.key == key for call in self._open.values())

    def waiting(self, keys: Iterable[str]) -> list[str]:
        """Requests without an outcome that should have one, for these deployments."""
        keys = set(keys)
        return [
            name
            for name, call in self._open.items()
            if not call.excused and call.key in keys and self.must_answer(call.key)
        ]
