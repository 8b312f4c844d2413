"""A pool's counters return to zero, and every call ends exactly once, under any mix of reply, refusal, cancel,
time-out and death, whatever the policy, with models and ejections."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from eagleray.base.errors import EaglerayError, RequestTimeoutError
from eagleray.routing.call import QUEUED, RoutedCall
from eagleray.routing.pinned import PinnedCall
from eagleray.routing.policies import Policy, make_policy
from eagleray.routing.pool import Pool
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, RouterEntry
from eagleray.routing.target import Target
from eagleray.routing.waiting_room import Chooser
from eagleray.wire.messages import DRAINING, REJECTED, CallHead, CallKind, ErrorHead, ReplicaReport, ReplyHead

MODELS = ("", "", "a", "b", "c")


class Link:
    """A connection without bytes: it remembers what was sent until the test answers."""

    def __init__(self, max_ongoing: int) -> None:
        self.closed = False
        self.max_ongoing = max_ongoing
        self.open: list[Any] = []
        self.cancelled: set[int] = set()
        self.sent: list[tuple[RoutedCall, bytes, bool]] = []

    def call(self, head: CallHead, body: bytes, *, end: bool, handler: RoutedCall) -> Link.Stream:
        assert not self.closed
        self.open.append(handler)
        pinned = isinstance(handler, PinnedCall)  # a replica itself tells what it has no room for
        assert pinned or len(self.open) <= self.max_ongoing, "the router overran a replica"
        return Link.Stream(self, handler)

    def close(self) -> None:
        self.closed = True

    class Stream:
        def __init__(self, link: Link, handler: RoutedCall) -> None:
            self.link, self.handler = link, handler

        def cancel(self) -> None:
            self.link.cancelled.add(id(self.handler))

        def send(self, chunk: bytes, end: bool) -> None:
            self.link.sent.append((self.handler, bytes(chunk), end))


class Call(RoutedCall):
    """Counts how often it ended, and keeps the error."""

    __slots__ = ("ends", "error")

    def __init__(self, model_id: str = "", session_id: str = "") -> None:
        head = CallHead(CallKind.PYTHON, multiplexed_model_id=model_id, session_id=session_id)
        super().__init__("app#d", head)
        self.ends = 0
        self.error: EaglerayError | None = None

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.ends += end

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        self.ends += end

    def on_failed(self, error: EaglerayError) -> None:
        self.ends += 1
        self.error = error

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.ends += 1


class Pinned(PinnedCall, Call):
    """To one replica and no other."""

    __slots__ = ()


class Everywhere:
    """Goes to all replicas, once there is a deployment."""

    def __init__(self) -> None:
        self.calls: list[Pinned] = []
        self.told = 0

    def spread(self, targets: list[Target]) -> None:
        self.told += 1
        for target in targets:
            self.calls.append(Pinned())
            self.calls[-1].pin(target)

    def on_failed(self, error: EaglerayError) -> None:
        self.told += 1


class Timer:
    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at, self.callback = at, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """What a pool needs of its router, in virtual time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.targets: list[Target] = []
        self.links: list[Link] = []

    def dial(self, target: Target) -> None:
        link = Link(target.entry.max_ongoing)
        self.targets.append(target)
        self.links.append(link)
        link.target = target  # type: ignore[attr-defined]
        target.client = link  # type: ignore[assignment]

    def starved(self, pool: Pool) -> None:
        """Nobody here wakes a deployment."""

    def missed(self, pool: Pool) -> None:
        pass

    def after(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(self.now + delay_s, callback))
        return self.timers[-1]

    def open_board(self, key: str) -> None:
        return None

    def steer(self, pool: Pool, router: RouterEntry | None) -> tuple[Policy, Chooser | None]:
        return make_policy(router.kind, {}) if router is not None else Policy(), None

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer.at > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.callback()


class PoolMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count()
        self.replicas: dict[str, int] = {}
        self.every_call: list[Call] = []
        self.world = World()
        self.pool = Pool("app#d", self.world, lambda: self.world.now)

    def publish(self, failed: str = "") -> None:
        entries = tuple(ReplicaEntry(rid, f"unix:/{rid}", n) for rid, n in self.replicas.items())
        entry = DeploymentEntry("app", "d", entries, self.max_queued, failed, router=self.router)
        self.pool.update(entry)

    @initialize(
        max_queued=st.sampled_from([-1, 1, 3]),
        kind=st.sampled_from(["", "power_of_two", "round_robin", "consistent_hash"]),
    )
    def begin(self, max_queued: int, kind: str) -> None:
        self.max_queued = max_queued
        self.router = RouterEntry(kind) if kind else None
        self.publish()

    @rule(kind=st.sampled_from(["", "round_robin", "consistent_hash"]))
    def change_router(self, kind: str) -> None:
        self.router = RouterEntry(kind) if kind else None
        self.publish()

    @rule(limit=st.integers(1, 3))
    def add_replica(self, limit: int) -> None:
        self.replicas[f"r{next(self.ids)}"] = limit
        self.publish()

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def remove_replica(self, data: st.DataObject) -> None:
        del self.replicas[data.draw(st.sampled_from(sorted(self.replicas)))]
        self.publish()

    @rule(target=calls, model_id=st.sampled_from(MODELS), session_id=st.sampled_from(["", "x", "y"]))
    def submit(self, model_id: str, session_id: str) -> Call:
        call = Call(model_id, session_id)
        self.every_call.append(call)
        self.pool.submit(call)
        return call

    @rule(target=calls)
    def broadcast(self) -> Any:
        everywhere = Everywhere()
        self.pool.spread(everywhere)
        assert everywhere.told == 1
        self.every_call += everywhere.calls
        return multiple(*everywhere.calls)

    @rule(call=calls, timed_out=st.booleans())
    def cancel(self, call: Call, timed_out: bool) -> None:
        call.cancel(RequestTimeoutError("late") if timed_out else None)

    def busy(self) -> list[Link]:
        return [link for link in self.world.links if link.open]

    @precondition(lambda self: self.busy())
    @rule(
        data=st.data(),
        outcome=st.sampled_from(
            ["reply", "500", "stream", "user", REJECTED, DRAINING, "timeout", "internal"]
        ),
    )
    def answer(self, data: st.DataObject, outcome: str) -> None:
        link = data.draw(st.sampled_from(self.busy()))
        call = link.open.pop(data.draw(st.integers(0, len(link.open) - 1)))
        if outcome in ("reply", "500"):
            call.on_reply(ReplyHead(load=len(link.open), status=500 if outcome == "500" else 0), b"", True)
        elif outcome == "stream":
            call.on_reply(ReplyHead(load=len(link.open) + 1), b"", False)
            call.on_data(b"x", False)
            call.on_data(b"", True)
        else:
            call.on_error(ErrorHead(outcome, load=len(link.open)), b"")

    @precondition(lambda self: self.world.links)
    @rule(data=st.data())
    def room(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.world.links))
        if not link.closed:
            link.target.on_room(link)  # type: ignore[attr-defined]

    @precondition(lambda self: self.world.links)
    @rule(data=st.data(), models=st.none() | st.lists(st.sampled_from("abc"), unique=True))
    def report(self, data: st.DataObject, models: list[str] | None) -> None:
        link = data.draw(st.sampled_from(self.world.links))
        if not link.closed:
            link.target.on_report(ReplicaReport(models, 1))  # type: ignore[attr-defined]

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.links)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.world.links))
        link.closed = True
        lost, link.open = link.open, []
        for call in lost:
            call.on_error(ErrorHead("replica_died"), b"")
        target = link.target  # type: ignore[attr-defined]
        if target.client is link:
            target.client = None
            self.pool.on_disconnected()

    @invariant()
    def counts_are_exact(self) -> None:
        assert sum(t.in_flight for t in self.world.targets) == sum(
            len(link.open) for link in self.world.links
        )
        waiting = [call for call in self.every_call if call.state == QUEUED]
        pinned = [call for call in waiting if isinstance(call, Pinned)]
        assert self.pool.queued == len(waiting) - len(pinned)
        assert sorted(map(id, pinned)) == sorted(id(call) for t in self.world.targets for call in t.pinned)
        assert len(list(self.pool.waiting)) == self.pool.queued
        assert all(call.ends <= 1 for call in self.every_call)

    @invariant()
    def at_most_half_are_ejected(self) -> None:
        reachable = [target for target in self.pool.targets if target.client is not None]
        assert sum(target.cap is not None for target in reachable) <= len(reachable) // 2

    @invariant()
    def nobody_waits_beside_a_free_replica_for_ever(self) -> None:
        if any(target.has_room for target in self.pool.targets):
            patient = [call for call in self.pool.waiting if self.world.now - call.since < 1.0]
            assert all(call.head.multiplexed_model_id or call.head.session_id for call in self.pool.waiting)
            assert len(patient) == self.pool.queued or any(not timer.cancelled for timer in self.world.timers)

    def teardown(self) -> None:
        for call in self.every_call:
            call.cancel()
        for link in self.world.links:
            while link.open:
                link.open.pop().on_reply(ReplyHead(), b"", True)
        assert self.pool.queued == 0
        assert all(target.in_flight == 0 for target in self.world.targets)
        assert all(not target.record.sent_models for target in self.world.targets if target.record)
        assert all(call.ends == 1 for call in self.every_call)
        self.pool.close(EaglerayError("the end"))
        assert all(timer.cancelled for timer in self.world.timers)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
