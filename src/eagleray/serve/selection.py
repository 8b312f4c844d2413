"""`handle.choose_replica`: a replica is chosen, and keeps a slot free, before the arguments of the call are known.

The reservation is the call itself, opened as an upload whose body is still to come. The replica counts it from then on,
so nobody else can take the slot, and routers, refusals, cancellation and death know nothing new: dispatching sends the
body, leaving the block without it cancels the call. Until the body goes out nothing has run, so a replica that dies
before it has taken the call only means that another one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eagleray.base.errors import EaglerayError, ReplicaDiedError, ReplicaUnavailableError
from eagleray.base.ids import DeploymentID
from eagleray.routing.call import NEW, QUEUED, SENT
from eagleray.serve.composition import Composition, find_responses
from eagleray.serve.context import NO_REQUEST, RequestContext
from eagleray.serve.response import (
    PENDING,
    VALUE,
    DeploymentResponse,
    DeploymentResponseGenerator,
    HandleCall,
    StreamCall,
    Until,
)
from eagleray.serve.runtime import Runtime
from eagleray.wire import codec
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.messages import CallHead
from eagleray.wire.parts import Shared, inline


class Reservation:
    """What is to be known of a call whose replica comes before its arguments.

    `claimed` and `left` are written by the thread that has chosen, `held` and `sent` on the runtime's loop.
    """

    __slots__ = ("choice", "claimed", "counted", "held", "hints", "left", "sent")

    def __init__(self, choice: HandleCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.choice = choice
        """Ends when the replica has taken the call, or none will. Not the call itself: who awaits its result in another
        thread, could be woken by what has ended the choice.
        """
        self.hints = args, kwargs
        self.held = False
        """The replica has taken the call."""
        self.claimed = False
        """It has been dispatched."""
        self.counted = False
        """It is among the slots that the pool's metrics tell of."""
        self.left = False
        """The block has been left without that."""
        self.sent = False
        """The arguments have gone out."""


class _Reserved(HandleCall):
    """On the runtime's loop, but for what is under "from any thread".

    Without slots: Python lays out no object whose bases both have slots of their own.
    """

    def __init__(
        self, runtime: Runtime, head: CallHead, reservation: Reservation, parent: RequestContext
    ) -> None:
        super().__init__(runtime, reservation.choice.key, head, b"", parent)
        self.body_complete = False
        self.reservation = reservation

    @property
    def hints(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.reservation.hints

    def on_accepted(self) -> None:
        self.reservation.held = True
        self._count(True)
        self.reservation.choice.settle(VALUE, None)

    def on_failed(self, error: EaglerayError) -> None:
        reservation, target = self.reservation, self.target
        if isinstance(error, ReplicaDiedError) and not reservation.sent and target is not None:
            if not reservation.held:
                self.state, self.target, self.stream = NEW, None, None
                self.runtime.submit_here(self)
                return
            error = ReplicaUnavailableError(target.entry.replica_id)
        super().on_failed(error)

    def settle(self, outcome: int, payload: Any) -> None:
        super().settle(outcome, payload)
        self._count(False)
        self.reservation.choice.settle(outcome, payload)
        if self.state in (QUEUED, SENT) and not self.reservation.sent:
            self.cancel()  # its arguments have failed: the slot would wait for them for ever

    def _count(self, holds: bool) -> None:
        """Whether it holds a slot for nothing yet."""
        pool, reservation = self.pool, self.reservation
        if pool is not None and pool.metrics is not None and reservation.counted != holds:
            reservation.counted = holds
            pool.metrics.reserved += 1 if holds else -1

    def submit(self) -> None:
        stream, pool = self.stream, self.pool
        if self.outcome != PENDING or stream is None or pool is None:
            return
        body, self.body = self.body, b""
        if type(body) is Shared:  # memory is lent with the head of a call, which has gone out already
            body = inline(body)
        self.reservation.sent = True
        self._count(False)
        if self.sent_at:
            self.sent_at = pool.clock()  # the replica is not slow because we have kept it waiting
        view, size = memoryview(body), len(body)
        for start in range(0, size, MAX_CHUNK):
            stream.send(view[start : start + MAX_CHUNK], start + MAX_CHUNK >= size)

    # ---- from any thread -------------------------------------------------------------------------------------

    async def chosen(self) -> ReplicaSelection:
        """Begins, and waits for a replica that has taken the call. Raises what a call raises that gets none."""
        self.runtime.post(self.begin)
        await Until(self.reservation.choice)
        target = self.target
        if not self.reservation.held or target is None:
            self.read()
        assert target is not None
        entry, record = target.entry, target.record
        kind, _, rest = entry.address.partition(":")
        return ReplicaSelection(
            replica_id=entry.replica_id,
            node_ip=rest.rpartition(":")[0] if kind == "tcp" else "127.0.0.1",
            port=None,
            node_id=entry.node_id,
            availability_zone=entry.zone or None,
            replica_metadata=dict(record.metadata) if record is not None else {},
            _call=self,
        )

    def leave(self) -> None:
        """The end of the block."""
        if not self.reservation.claimed:
            self.reservation.left = True
            self.runtime.post(self.abandon)


class ReservedCall(_Reserved):
    """Ends with one result."""


class ReservedStreamCall(_Reserved, StreamCall):
    """Ends with items."""


def reserve(
    runtime: Runtime,
    key: str,
    head: CallHead,
    parent: RequestContext,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Reserved:
    """A call that is to choose its replica now. NotImplementedError in local testing mode, as with Ray Serve."""
    if runtime.in_process:
        raise NotImplementedError(
            f"`choose_replica` of {DeploymentID.parse(key)} does not work in local testing mode, where each deployment "
            f"has one replica. Call the handle by `.remote()` there."
        )
    reservation = Reservation(HandleCall(runtime, key, head, b"", NO_REQUEST), args, kwargs)
    return (ReservedStreamCall if head.stream else ReservedCall)(runtime, head, reservation, parent)


@dataclass(frozen=True, eq=False)
class ReplicaSelection:
    """A replica that keeps a slot for one call, until it is dispatched or the block ends. For one thread."""

    replica_id: str
    """As `serve.get_replica_context().replica_tag` in the replica."""
    node_ip: str
    port: int | None
    """Always None: replicas have no port."""
    node_id: str
    availability_zone: str | None
    replica_metadata: dict[str, Any]
    """What the deployment's `record_replica_metadata` returned."""
    _call: _Reserved = field(repr=False)

    @property
    def address(self) -> str:
        """Where the replica runs."""
        return f"{self.node_ip}:{self.port}" if self.port else self.node_ip

    def to_dict(self) -> dict[str, Any]:
        """The public fields."""
        return {
            "replica_id": self.replica_id,
            "node_ip": self.node_ip,
            "port": self.port,
            "node_id": self.node_id,
            "availability_zone": self.availability_zone,
            "replica_metadata": self.replica_metadata,
        }


def dispatch(
    key: str, selection: ReplicaSelection, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> DeploymentResponse[Any] | DeploymentResponseGenerator[Any]:
    """Sends the arguments to the chosen replica; see `DeploymentHandle.dispatch`."""
    call = selection._call
    if call.key != key:
        raise ValueError(
            f"Replica {selection.replica_id} was chosen for {DeploymentID.parse(call.key)}: its selection cannot be "
            f"dispatched by a handle of {DeploymentID.parse(key)}."
        )
    reservation, runtime = call.reservation, call.runtime
    if reservation.claimed:
        raise RuntimeError(
            f"The selection of replica {selection.replica_id} has already been dispatched: it is good for one call."
        )
    if reservation.left:
        raise RuntimeError(
            f"The selection of replica {selection.replica_id} is not reserved any more: dispatch it inside its "
            f"`async with handle.choose_replica(...)` block."
        )
    composed = bool(find_responses(args, kwargs))
    body = b"" if composed else codec.dump_call(args, kwargs)
    reservation.claimed = True
    if composed:
        runtime.post(Composition(call, args, kwargs).begin)
    else:
        runtime.post(_send, call, body)
    return DeploymentResponseGenerator(call) if isinstance(call, StreamCall) else DeploymentResponse(call)


def _send(call: _Reserved, body: bytes) -> None:
    if call.outcome == PENDING:
        call.body = body
        call.submit()
