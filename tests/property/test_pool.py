"""A pool's counters return to zero, and every call ends exactly once, under any mix of reply, refusal and death."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from eagleray.base.errors import EaglerayError
from eagleray.routing.call import RoutedCall
from eagleray.routing.pool import Pool, Target
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import DRAINING, REJECTED, CallHead, CallKind, ErrorHead, ReplyHead


class Link:
    """A connection without bytes: it remembers what was sent until the test answers."""

    def __init__(self, max_ongoing: int) -> None:
        self.closed = False
        self.max_ongoing = max_ongoing
        self.open: list[Any] = []
        self.cancelled: set[int] = set()

    def call(self, head: CallHead, body: bytes, *, end: bool, handler: RoutedCall) -> Link.Stream:
        assert not self.closed
        self.open.append(handler)
        assert len(self.open) <= self.max_ongoing, "the router overran a replica"
        return Link.Stream(self, handler)

    def close(self) -> None:
        self.closed = True

    class Stream:
        def __init__(self, link: Link, handler: RoutedCall) -> None:
            self.link, self.handler = link, handler

        def cancel(self) -> None:
            self.link.cancelled.add(id(self.handler))


class Call(RoutedCall):
    """Counts how often it ended."""

    __slots__ = ("ends",)

    def __init__(self) -> None:
        super().__init__("app#d", CallHead(CallKind.PYTHON))
        self.ends = 0

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.ends += end

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        self.ends += end

    def on_failed(self, error: EaglerayError) -> None:
        self.ends += 1

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.ends += 1


class PoolMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count()
        self.replicas: dict[str, int] = {}
        self.links: dict[str, Link] = {}
        self.every_link: list[Link] = []
        self.every_call: list[Call] = []
        self.targets: list[Target] = []
        self.pool = Pool("app#d", self.dial)

    def dial(self, target: Target) -> None:
        link = Link(target.max_ongoing)
        self.targets.append(target)
        self.every_link.append(link)
        self.links[target.entry.replica_id] = link
        target.client = link  # type: ignore[assignment]
        link.target = target  # type: ignore[attr-defined]

    def publish(self, failed: str = "") -> None:
        entries = tuple(ReplicaEntry(rid, f"unix:/{rid}", n) for rid, n in self.replicas.items())
        self.pool.update(DeploymentEntry("app", "d", entries, self.max_queued, failed))

    @initialize(max_queued=st.sampled_from([-1, 1, 3]))
    def begin(self, max_queued: int) -> None:
        self.max_queued = max_queued
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

    @rule(target=calls)
    def submit(self) -> Call:
        call = Call()
        self.every_call.append(call)
        self.pool.submit(call)
        return call

    @rule(call=calls)
    def cancel(self, call: Call) -> None:
        call.cancel()

    def busy(self) -> list[Link]:
        return [link for link in self.every_link if link.open]

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), outcome=st.sampled_from(["reply", "stream", "user", REJECTED, DRAINING, "timeout"]))
    def answer(self, data: st.DataObject, outcome: str) -> None:
        link = data.draw(st.sampled_from(self.busy()))
        call = link.open.pop(data.draw(st.integers(0, len(link.open) - 1)))
        if outcome == "reply":
            call.on_reply(ReplyHead(load=len(link.open)), b"", True)
        elif outcome == "stream":
            call.on_reply(ReplyHead(load=len(link.open) + 1), b"", False)
            call.on_data(b"x", False)
            call.on_data(b"", True)
        else:
            call.on_error(ErrorHead(outcome, load=len(link.open)), b"")

    @precondition(lambda self: self.every_link)
    @rule(data=st.data())
    def room(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.every_link))
        if not link.closed:
            link.target.on_room(link)  # type: ignore[attr-defined]

    @precondition(lambda self: self.every_link)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.every_link))
        link.closed = True
        lost, link.open = link.open, []
        for call in lost:
            call.on_error(ErrorHead("replica_died"), b"")

    @invariant()
    def counts_are_exact(self) -> None:
        assert sum(t.in_flight for t in self.targets) == sum(len(link.open) for link in self.every_link)
        assert self.pool.queued == sum(call.state == 1 for call in self.every_call)
        assert all(call.ends <= 1 for call in self.every_call)

    def teardown(self) -> None:
        for call in self.every_call:
            call.cancel()
        for link in self.every_link:
            while link.open:
                link.open.pop().on_reply(ReplyHead(), b"", True)
        assert self.pool.queued == 0
        assert all(target.in_flight == 0 for target in self.targets)
        assert all(call.ends == 1 for call in self.every_call)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
