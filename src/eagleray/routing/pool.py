"""The replicas of one deployment as one router sees them, and the requests that wait for them.

Requests queue here and are woken by completion: a reply, a ROOM notice of a replica that had refused, a new
connection. Nothing polls and nothing backs off blindly. Who goes where is the policy's choice; the common one, power of
two for a call that names no model, is made here without asking.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from eagleray.base.errors import EaglerayError
from eagleray.routing import admission
from eagleray.routing.board import Board
from eagleray.routing.call import COUNTED, MEASURED, NEW, SENT, UNCOUNTED, RoutedCall
from eagleray.routing.ejection import Ejection
from eagleray.routing.policies import Policy, power_of_two
from eagleray.routing.record import Record
from eagleray.routing.table import DeploymentEntry, RouterEntry
from eagleray.routing.target import Target
from eagleray.routing.waiting import Patience, Timer, since
from eagleray.routing.waiting_room import Chooser, WaitingRoom
from eagleray.wire.messages import ReplicaReport


class Owner(Protocol):
    """What a pool needs of its router."""

    def dial(self, target: Target) -> None:
        """The target needs a connection."""

    def missed(self, pool: Pool) -> None:
        """Calls wait for what no table names."""

    def starved(self, pool: Pool) -> None:
        """Calls wait where there is no replica."""

    def after(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Calls back in so many seconds."""

    def open_board(self, key: str) -> Board | None:
        """The count of those who wait for the deployment `key` at any router; None when nothing is shared."""

    def steer(self, pool: Pool, router: RouterEntry | None) -> tuple[Policy, Chooser | None]:
        """How this pool's replicas are to be chosen."""


class Pool(WaitingRoom):
    """The queue and the targets of one deployment."""

    def __init__(self, key: str, owner: Owner, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(key, partial(owner.open_board, key), clock)
        self._owner = owner
        self._patience = Patience(owner.after, clock, self.wake)
        self._ejection = Ejection(key, self.find, owner.after, clock, self.wake)

    def starving(self) -> None:
        self._owner.starved(self)

    def unknown(self) -> None:
        self._owner.missed(self)

    # ---- calls -----------------------------------------------------------------------------------------------

    def submit(self, call: RoutedCall) -> None:
        call.pool = self
        metrics = self.metrics
        if metrics is not None and not call.measured:  # it has not been here before
            call.measured = COUNTED
            route = call.head.route
            entered = metrics.routes.get(route) or metrics.open(route)
            entered.count += 1
            if entered.count >= entered.measured_at:
                call.measured = MEASURED
                entered.measure(self.clock())
        if not self.waiting.count:
            if self._plain and not call.head.multiplexed_model_id:
                target = power_of_two(self.targets)
            else:
                target = self.policy.pick(call, self.targets, True) if self.chooser is None else None
            if target is not None:
                if metrics is not None:
                    metrics.waits.none += 1
                self.send_to(call, target)
                return
        refused = admission.unavailable(self.entry, bool(self.targets)) or self._admit(call)
        if refused is not None:
            self.shed(call, refused)
            return
        # Room may exist although others wait: their wake-up is then still to come in this turn of the loop.
        self.wake()
        if self.entry is None:
            self._owner.missed(self)

    def submit_alone(self, call: RoutedCall, post: Callable[..., object]) -> bool:
        """From any thread: sends a small call to an idle replica. False: nothing was done, `submit` it on the loop.

        `post` runs a function on the loop. Only what needs no state of a policy is sent so.
        """
        if not self._plain or call.head.multiplexed_model_id or self.waiting.count:
            return False
        target = power_of_two(self.targets)
        client = target.client if target is not None else None
        if target is None or client is None or not target.reserve():
            return False
        call.pool = self
        call.target = target
        call.state = SENT
        metrics = self.metrics
        if target.record is not None:
            target.record.sent(call)
        elif metrics is not None:
            call.sent_at = self.clock()
            call.measured = MEASURED
        sent = False
        try:
            sent = client.call_alone(call.head, call.body, call, call.opened)
        finally:
            if not sent and call.stream is None:  # also when Ctrl-C came between
                call.state = NEW
                call.target = None
                call.measured = UNCOUNTED
                post(target.release, None)
        if sent and metrics is not None:
            metrics.entered_alone(call.head.route)
        return sent

    def wake(self) -> None:
        """Sends waiting calls, oldest first, while some target has room."""
        waiting = self.waiting
        if self.chooser is not None:
            if waiting.count:
                self.chooser.kick()
            return
        while waiting.count:
            if waiting.has_preferences and not any(target.has_room for target in self.targets):
                break
            for call in waiting.heads():
                if self._is_late(call):
                    break
                target = self._pick(call)
                if target is not None:
                    waiting.take(call)
                    self.send_to(call, target)
                    break
            else:
                break

    def _pick(self, call: RoutedCall) -> Target | None:
        if self._plain and not call.head.multiplexed_model_id:
            return power_of_two(self.targets)
        return self.policy.pick(call, self.targets, self._patience.has(call))

    def send_waiting(self, call: RoutedCall, target: Target) -> None:
        """For the chooser: `call`, which waits, goes to `target`, which has room."""
        self.waiting.pull(call)
        self.send_to(call, target)

    def send_to(self, call: RoutedCall, target: Target) -> None:
        """Sends the call to `target` and nowhere else; who calls this has seen to room there."""
        assert target.client is not None
        with target.lock:
            target.in_flight += 1
        call.state = SENT
        call.target = target
        if target.record is not None:
            target.record.sent(call)
        elif call.head.deadline or call.measured == MEASURED:
            call.sent_at = self.clock()
        if call.since and self.metrics is not None:
            self.metrics.waits.observe((self.clock() - call.since) * 1000.0)
        call.stream = target.client.call(call.head, call.body, end=call.body_complete, handler=call)

    # ---- targets ---------------------------------------------------------------------------------------------

    def update(self, entry: DeploymentEntry | None) -> None:
        """Takes over what a new table says; targets that left it finish what they have."""
        known = self.entry
        self.entry = entry
        if entry is None:
            self._retire({t.entry.replica_id for t in self.targets})
            if known is not None:
                self.fail_unavailable("it was deleted")
            elif self.queued or self.fanouts:
                self._owner.missed(self)
            return
        self.limit.update(entry, self.waiting)
        if known is None or known.router != entry.router:
            self._steer(entry.router)
        listed = {replica.replica_id: replica for replica in entry.replicas}
        self._retire({t.entry.replica_id for t in self.targets if t.entry.replica_id not in listed})
        present = {target.entry.replica_id: target for target in self.targets}
        for replica_id, replica in listed.items():
            target = present.get(replica_id)
            if target is None:
                target = Target(self, replica)
                self.targets.append(target)
                if self.metrics is not None:
                    self.metrics.follow(target)
                self._owner.dial(target)
            else:
                target.entry = replica
                target.limit()
        self._changed()
        if entry.failed and not self.targets:
            self.fail_unavailable()
        else:
            self.wake()
        self.fan_out()
        if not self.targets and self.waiting.count:
            self.starving()

    def _steer(self, router: RouterEntry | None) -> None:
        if self.chooser is not None:
            self.chooser.close()
        self.policy, self.chooser = self._owner.steer(self, router)
        self.policy.update(self.targets)
        self._plain = type(self.policy) is Policy and self.chooser is None
        for call in sorted(self.waiting.clear(), key=since):
            self.enqueue(call)

    def route_plainly(self) -> None:
        """The chooser gives up: power of two choices from now on."""
        self.chooser, self._plain = None, True
        self._changed()
        self.wake()

    def _changed(self) -> None:
        """Targets, or what is known of them, have changed."""
        targets = self.targets
        has_choice = len(targets) > 1 or not self._plain
        for target in targets:
            if target.record is None and has_choice:
                target.record = self._record(target)
            if target.record is not None:
                target.record.tell(self.chooser)
        self._ejection.keep(t.entry.replica_id for t in targets if t.client is not None)
        had_models = self.policy.has_models
        self.policy.update(targets)
        if self.policy.has_models != had_models:
            self.line_up_again()
        if self.chooser is not None:
            self.chooser.update()

    def _record(self, target: Target) -> Record:
        return Record(target.entry.replica_id, self._ejection.outliers, self.clock)

    def on_report(self, target: Target, report: ReplicaReport) -> None:
        """A replica has told what it is like."""
        if target.record is None:
            target.record = self._record(target)
        target.record.take(report)
        self._changed()
        if self.waiting.count:
            self.wake()

    def on_connected(self) -> None:
        """A target can be reached."""
        self._changed()
        for target in self.targets:
            target.send_pinned()
        self.wake()

    def on_disconnected(self) -> None:
        """A target cannot be reached any more."""
        self._changed()

    def _retire(self, replica_ids: set[str]) -> None:
        for target in self._part_with(replica_ids):
            self._ejection.forget(target.entry.replica_id)
            if self.metrics is not None:
                self.metrics.unfollow(target)
            with target.lock:
                target.listed = False
                idle = not target.in_flight
            target.drop_pinned()
            if idle:
                target.disconnect()

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self, error: EaglerayError) -> None:
        """Fails what waits and drops all connections."""
        if self.chooser is not None:
            self.chooser.close()
        self._ejection.close()
        self._patience.close()
        self.fail_waiting(error)
        if self.waiting.board is not None:
            self.waiting.board.close()
            self.waiting.board = None
        for target in self.targets:
            target.listed = False
            target.drop_pinned(error)
            target.disconnect()
