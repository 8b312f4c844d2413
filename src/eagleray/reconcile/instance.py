"""One lifecycle for every process that an engine started: the transition table of replicas and proxies.

An instance is a durable row and what only this life of the controller knows of it. `fire` is the only way to change
its state; what is not in the table is a bug and is refused with the instance's history.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Literal

import msgspec

from eagleray.base.errors import EaglerayError
from eagleray.reconcile.placement import Allocation
from eagleray.reconcile.target import RunningConfig


class InstanceState(StrEnum):
    """Where an instance is in its life; only those in `LISTED` get requests."""

    STARTING = "STARTING"
    """The row is written; the process is being started or has not yet said that it is ready."""
    RUNNING = "RUNNING"
    UPDATING = "UPDATING"
    """Is being reconfigured, and serves meanwhile."""
    RECOVERING = "RECOVERING"
    """Was running when the controller died; serves, and has not yet answered the new controller."""
    LEAVING = "LEAVING"
    """No longer in the routing table; some subscriber may not know yet."""
    DRAINING = "DRAINING"
    """Finishes what is in flight."""
    STOPPING = "STOPPING"
    """Has drained and ends by itself."""
    KILLING = "KILLING"
    STOPPED = "STOPPED"
    """The process is gone, its resources are free, its row is deleted."""


class Trigger(StrEnum):
    """What moves an instance from state to state."""

    READY = "ready"
    FAILED = "failed"
    """The user's constructor, or the first health check, raised."""
    REJECTED = "rejected"
    """The engine did not start the process."""
    LOST = "lost"
    """The control connection ended."""
    EXITED = "exited"
    ADOPT = "adopt"
    """A new controller found the process alive."""
    RECONFIGURE = "reconfigure"
    RECONFIGURED = "reconfigured"
    REFUSED = "refused"
    """The user's `reconfigure` raised; the replica goes on with what it had."""
    RETIRE = "retire"
    RETIRE_UNHEARD = "retire unheard"
    """As `retire`, of one that has not yet answered this controller: it may have served by a table of the last one."""
    UNLISTED = "unlisted"
    """Nobody routes to it any more."""
    DRAINED = "drained"
    OVERDUE = "overdue"


S, T = InstanceState, Trigger

TABLE: dict[tuple[InstanceState, Trigger], InstanceState] = {
    (S.STARTING, T.READY): S.RUNNING,
    (S.STARTING, T.FAILED): S.KILLING,
    (S.STARTING, T.REJECTED): S.STOPPED,
    (S.STARTING, T.LOST): S.KILLING,
    (S.STARTING, T.RETIRE): S.KILLING,
    (S.STARTING, T.RETIRE_UNHEARD): S.LEAVING,
    (S.STARTING, T.ADOPT): S.STARTING,
    (S.RUNNING, T.RECONFIGURE): S.UPDATING,
    (S.RUNNING, T.ADOPT): S.RECOVERING,
    (S.UPDATING, T.RECONFIGURED): S.RUNNING,
    (S.UPDATING, T.REFUSED): S.RUNNING,
    (S.UPDATING, T.ADOPT): S.RECOVERING,
    (S.RECOVERING, T.READY): S.RUNNING,
    (S.RECOVERING, T.FAILED): S.KILLING,
    (S.RECOVERING, T.ADOPT): S.RECOVERING,
    **{(state, T.LOST): S.KILLING for state in (S.RUNNING, S.UPDATING, S.RECOVERING, S.LEAVING, S.DRAINING)},
    **{(state, T.RETIRE): S.LEAVING for state in (S.RUNNING, S.UPDATING, S.RECOVERING)},
    (S.LEAVING, T.UNLISTED): S.DRAINING,
    (S.DRAINING, T.DRAINED): S.STOPPING,
    (S.DRAINING, T.OVERDUE): S.KILLING,
    (S.STOPPING, T.OVERDUE): S.KILLING,
    **{(state, T.ADOPT): state for state in (S.LEAVING, S.DRAINING, S.STOPPING, S.KILLING)},
    **{(state, T.EXITED): S.STOPPED for state in S if state is not S.STOPPED},
    # A process that goes away closes its connection first.
    (S.STOPPING, T.LOST): S.STOPPING,
    (S.KILLING, T.LOST): S.KILLING,
    # Answers that were under way when the decision fell.
    **{
        (state, late): state
        for state in (S.LEAVING, S.DRAINING, S.STOPPING, S.KILLING)
        for late in (T.READY, T.FAILED, T.RECONFIGURED, T.REFUSED)
    },
    **{(state, T.UNLISTED): state for state in (S.DRAINING, S.STOPPING, S.KILLING)},
    **{(state, T.DRAINED): state for state in (S.STOPPING, S.KILLING)},
    # It was never started, so no exit will be reported.
    (S.KILLING, T.REJECTED): S.STOPPED,
}
"""(state, trigger) -> next state. Everything else is illegal."""

COUNTED = frozenset((S.STARTING, S.RUNNING, S.UPDATING, S.RECOVERING))
"""States that count towards a deployment's target."""

LISTED = frozenset((S.RUNNING, S.UPDATING, S.RECOVERING))
"""States whose instances are in the routing table: they are up, and nobody has decided that they go."""

GOING = frozenset((S.LEAVING, S.DRAINING, S.STOPPING, S.KILLING))

_HISTORY_LENGTH = 16


class IllegalTransitionError(EaglerayError):
    """An instance was told something that cannot be true in its state: a bug of ours."""

    code = "internal"


class InstanceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What survives the controller. `owner` is a deployment key; `config` is what the instance has taken in last.

    `children` are the deployments that it holds handles of; with `graceful_shutdown_timeout_s` they are needed when the
    deployment itself is gone already.
    """

    ref: str
    owner: str
    unique_id: str
    version: str
    kind: Literal["replica", "proxy"] = "replica"
    state: InstanceState = InstanceState.STARTING
    config: RunningConfig = RunningConfig()
    allocation: Allocation = Allocation()
    rank: int = 0
    children: tuple[str, ...] = ()
    graceful_shutdown_timeout_s: float = 20.0
    pid: int = 0
    up_at: float = 0.0
    """Monotonic seconds of this boot, which no process outlives; 0.0: it has not been up yet."""
    expired: str = ""
    """Why it is to be replaced; it serves until its successor is up."""
    http_address: tuple[str, int] | None = None
    started_at: float = 0.0
    """Wall time, for people."""


class Instance:
    """A row and its volatile part. Times are the controller's monotonic seconds."""

    __slots__ = (
        "check_at",
        "checking",
        "due_at",
        "history",
        "is_adopted",
        "is_born",
        "misses",
        "next_config",
        "ordered",
        "reason",
        "row",
        "suspended_at",
        "up_since",
    )

    def __init__(self, row: InstanceRow) -> None:
        self.row = row
        self.is_born = False
        """The engine has confirmed the process, in this life of the controller or a former one."""
        self.is_adopted = False
        """A former controller has started it."""
        self.ordered: InstanceState | None = None
        """The state whose order has been given; orders are repeated after a restart."""
        self.check_at: float | None = None
        self.checking = False
        self.misses = 0
        self.next_config: RunningConfig | None = None
        """What it is being told while UPDATING."""
        self.up_since: float | None = None
        self.due_at: float | None = None
        """When the present state becomes OVERDUE."""
        self.suspended_at: float | None = None
        """Since when its process is stopped by a signal: no requests for it meanwhile."""
        self.reason = ""
        self.history: deque[str] = deque(maxlen=_HISTORY_LENGTH)

    @property
    def state(self) -> InstanceState:
        return self.row.state

    @property
    def is_routed(self) -> bool:
        """Whether it is to get requests."""
        return self.row.state in LISTED and self.suspended_at is None

    @property
    def is_listed(self) -> bool:
        return self.row.state in LISTED

    @property
    def way_out(self) -> Trigger:
        """How it is told to go. That it is up becomes known before it becomes durable, so the row may lag behind."""
        is_unheard = self.is_adopted and self.row.state is InstanceState.STARTING
        return Trigger.RETIRE_UNHEARD if is_unheard else Trigger.RETIRE

    def fire(self, trigger: Trigger, reason: str = "") -> bool:
        """Moves to the next state and says whether it is another one; IllegalTransitionError if there is none."""
        before = self.row.state
        after = TABLE.get((before, trigger))
        if after is None:
            raise IllegalTransitionError(
                f"Instance {self.row.ref} is {before} and cannot be {trigger!s}. History: {', '.join(self.history)}."
            )
        self.history.append(f"{before} -{trigger}-> {after}")
        if trigger is Trigger.ADOPT:
            self.ordered = None
        if after is before:
            return False
        self.row = msgspec.structs.replace(self.row, state=after)
        self.ordered = None
        self.due_at = None
        if reason:
            self.reason = reason
        return True
