"""The waiting half of a pool: who may wait, in which line, and who has waited for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eagleray.base.errors import DeploymentUnavailableError, EaglerayError, RequestTimeoutError
from eagleray.base.ids import DeploymentID
from eagleray.routing import admission
from eagleray.routing.board import Board
from eagleray.routing.call import DONE, QUEUED, RoutedCall
from eagleray.routing.metrics import PoolMetrics
from eagleray.routing.pace import Pace
from eagleray.routing.policies import Policy
from eagleray.routing.table import DeploymentEntry
from eagleray.routing.target import Target
from eagleray.routing.waiting import Waiting


class Chooser(Protocol):
    """A way of choosing that takes its time: it gets the waiting calls and has them sent by `Pool.send_waiting`."""

    @property
    def surplus(self) -> int:
        """How many calls wait for more than to be chosen for."""

    def submitted(self, call: RoutedCall, first: bool) -> None: ...
    def kick(self) -> None: ...
    def update(self) -> None: ...
    def ended(self, call: RoutedCall) -> None: ...
    def close(self) -> None: ...


class Fanout(Protocol):
    """A call for all replicas that run: it makes one of each (`routing.pinned`)."""

    def spread(self, targets: list[Target]) -> None:
        """They are these; there may be none."""

    def on_failed(self, error: EaglerayError) -> None:
        """There is no such deployment, or nothing that answers for it."""


class WaitingRoom:
    """Base of `Pool`, which chooses who goes where."""

    def __init__(self, key: str, open_board: Callable[[], Board | None], clock: Callable[[], float]) -> None:
        self.key = key
        self.entry: DeploymentEntry | None = None
        self.waiting = Waiting()
        self.limit = admission.Limit(open_board, clock)
        self.pace = Pace()
        self.policy = Policy()
        self.chooser: Chooser | None = None
        self.clock = clock
        self.targets: list[Target] = []
        self.leaving: list[Target] = []
        """Replicas that the table lists no more, and that may still have calls of ours."""
        self.fanouts: list[Fanout] = []
        """Those that wait for a table which names the deployment."""
        self.metrics: PoolMetrics | None = None
        """None: nothing is counted."""
        self._plain = True

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self.waiting.count

    @property
    def ongoing(self) -> int:
        """Calls in flight at listed replicas."""
        return sum(target.in_flight for target in self.targets)

    @property
    def is_used(self) -> bool:
        """Whether somebody waits here, or has a call at a replica."""
        targets = (*self.targets, *self.leaving)
        return bool(self.queued or self.fanouts or any(target.in_flight for target in targets))

    def find(self, replica_id: str) -> Target | None:
        """The target of that replica."""
        return next((target for target in self.targets if target.entry.replica_id == replica_id), None)

    def _part_with(self, replica_ids: set[str]) -> list[Target]:
        """The targets of these replicas, which get no calls any more."""
        leaving = [target for target in self.targets if target.entry.replica_id in replica_ids]
        self.targets = [target for target in self.targets if target.entry.replica_id not in replica_ids]
        self.leaving = [target for target in self.leaving if target.in_flight] + leaving
        return leaving

    def take_back(self, call: RoutedCall) -> None:
        """A replica has refused the call. One that was sent at once has never been counted among those who wait, so it
        may be one too many now.
        """
        if call.since:
            self.enqueue(call, first=True)
        elif (refused := self._admit(call, first=True)) is not None:
            self.shed(call, refused)

    def shed(self, call: RoutedCall, error: EaglerayError) -> None:
        """Ends a call that was not sent, and will not be."""
        call.state = DONE
        if self.metrics is not None:
            self.metrics.shed(error.code)
        call.on_failed(error)

    def _admit(self, call: RoutedCall, *, first: bool = False) -> EaglerayError | None:
        """Puts the call at the end of its line, or at its head, or says why it may not wait."""
        self._line_up(call, first)
        entry = self.entry
        surplus = self.waiting.count if self.chooser is None else self.chooser.surplus
        refused = None if entry is None else self.limit.refusal(entry, self.waiting, surplus)
        if refused is not None:
            self.waiting.undo(call)
        elif self.chooser is not None:
            self.chooser.submitted(call, first)
        return refused

    def enqueue(self, call: RoutedCall, *, first: bool = False) -> None:
        """Lets a call wait that was admitted before; with `first`, before the others."""
        self._line_up(call, first)
        if self.chooser is not None:
            self.chooser.submitted(call, first)

    def _line_up(self, call: RoutedCall, first: bool) -> None:
        call.state = QUEUED
        if not call.since:
            call.since = self.clock()
        call.line = "" if self._plain and not call.head.multiplexed_model_id else self.policy.line(call)
        self.waiting.add(call, first=first)
        if not self.targets:
            self.starving()

    def starving(self) -> None:
        """A call waits where there is no replica."""

    def unknown(self) -> None:
        """Somebody waits for a deployment that no table names."""

    def line_up_again(self) -> None:
        """Lines have another meaning now; who came first is still first."""
        for call in sorted(self.waiting.clear(), key=_since):
            self._line_up(call, False)

    def spread(self, fanout: Fanout) -> None:
        """Gives `fanout` the targets of all replicas that run now, or as soon as a table names the deployment."""
        refused = admission.unavailable(self.entry, bool(self.targets))
        if refused is not None:
            fanout.on_failed(refused)
            return
        self.fanouts.append(fanout)
        if self.entry is None:
            self.unknown()
        else:
            self.fan_out()

    def fan_out(self) -> None:
        """A table names the deployment."""
        fanouts, self.fanouts = self.fanouts, []
        for fanout in fanouts:
            fanout.spread([target for target in self.targets if not target.draining])

    def forget(self, call: RoutedCall) -> None:
        """A waiting call was cancelled."""
        call.state = DONE
        self.waiting.forget(call)

    def _is_late(self, call: RoutedCall) -> bool:
        """Whether `call`, a head, cannot meet its deadline; then it is refused before it costs a replica anything."""
        deadline = call.head.deadline
        if not deadline or self.clock() + self.pace.least_s < deadline:
            return False
        self.waiting.take(call)
        self.shed(call, RequestTimeoutError(call.head.request_id))
        return True

    def fail_unavailable(self, reason: str = "it failed to deploy") -> None:
        self.fail_waiting(DeploymentUnavailableError(DeploymentID.parse(self.key), reason))

    def fail_waiting(self, error: EaglerayError) -> None:
        for call in self.waiting.clear():
            if call.state == QUEUED:
                self.shed(call, error)
        fanouts, self.fanouts = self.fanouts, []
        for fanout in fanouts:
            fanout.on_failed(error)


def _since(call: RoutedCall) -> float:
    return call.since
