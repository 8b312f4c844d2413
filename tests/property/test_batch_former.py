"""Whatever comes, leaves and is measured: every item is answered for exactly once, in order, in batches that fit."""

from __future__ import annotations

import itertools
import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eagleray.serve.batch_policy import FixedPolicy, Former
from eagleray.serve.batch_target import TargetPolicy

BROKEN = -1
"""An item whose size cannot be told."""


class Item:
    def __init__(self, number: int, key: int, size: int, arrived: float) -> None:
        self.number, self.key, self.size, self.arrived = number, key, size, arrived
        self.is_gone = False


def measure(items: list[Item]) -> int:
    sizes = [item.size for item in items]
    if BROKEN in sizes:
        raise KeyError("broken")
    return sum(sizes)


class FormerMachine(RuleBasedStateMachine):
    @initialize(
        limit=st.integers(1, 6),
        wait=st.sampled_from([0.0, 1.0, math.inf]),
        measured=st.booleans(),
        learns=st.booleans(),
    )
    def begin(self, limit: int, wait: float, measured: bool, learns: bool) -> None:
        self.now = 0.0
        self.numbers = itertools.count()
        self.measured = measured
        self.wait = wait
        self.learning = TargetPolicy(4.0, limit, wait) if learns else None
        self.policy = self.learning or FixedPolicy(limit, wait)
        self.former: Former[Item] = Former(self.policy, measure if measured else None)
        self.waiting: dict[int, list[Item]] = {}
        self.lowered = False

    @rule(key=st.integers(0, 2), size=st.integers(BROKEN, 7))
    def arrive(self, key: int, size: int) -> None:
        item = Item(next(self.numbers), key, size, self.now)
        self.waiting.setdefault(key, []).append(item)
        self.former.add(key, item)
        if self.learning is not None:
            self.learning.arrived(1, self.now)
        self.take_refused()

    @rule(seconds=st.floats(0.01, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data(), noted=st.booleans())
    def leave(self, data: st.DataObject, noted: bool) -> None:
        alive = [item for items in self.waiting.values() for item in items]
        item = data.draw(st.sampled_from(alive))
        item.is_gone = True
        self.waiting[item.key].remove(item)
        if noted:
            self.former.note_gone()

    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        self.policy.max_size = limit
        self.former.resized()

    @rule(took=st.floats(0.0, 6.0))
    def take(self, took: float) -> None:
        batch = self.former.take(self.now)
        self.take_refused()
        if batch is None:
            for items in self.waiting.values():
                assert self.measured or len(items) < self.policy.max_size, "a full batch does not wait"
                if items and self.learning is None:
                    assert self.former.due <= items[0].arrived + self.wait
            assert self.former.due > self.now
            return
        (key,) = {item.key for item in batch.items}
        waiting = self.waiting[key]
        if self.learning is None:
            assert batch.items == waiting[: len(batch.items)], "first in, first out, and nobody who has left"
        numbers = [item.number for item in batch.items]
        assert numbers == sorted(numbers)
        for item in batch.items:
            waiting.remove(item)
        size = measure(batch.items) if self.measured else len(batch.items)
        assert size <= self.policy.max_size
        if self.learning is not None:
            self.learning.done(batch.items, batch.size, self.now, self.now + took)
        else:
            assert batch.size == size
            is_due = batch.items[0].arrived + self.wait <= self.now
            follower = waiting[:1]
            is_full = size == self.policy.max_size or (
                self.measured and bool(follower) and not self.fits([*batch.items, *follower])
            )
            assert is_due or is_full

    def fits(self, items: list[Item]) -> bool:
        try:
            return measure(items) <= self.policy.max_size
        except KeyError:
            return False

    def take_refused(self) -> None:
        refused, self.former.refused = self.former.refused, []
        for item, error in refused:
            assert self.measured
            if item.is_gone:
                continue
            self.waiting[item.key].remove(item)
            assert isinstance(error, KeyError if item.size == BROKEN else RuntimeError)
            assert item.size == BROKEN or item.size > self.policy.max_size

    @invariant()
    def nobody_is_lost(self) -> None:
        if hasattr(self, "former"):
            assert self.former.waiting >= sum(map(len, self.waiting.values()))

    def teardown(self) -> None:
        if not hasattr(self, "former"):
            return
        # In the end everybody who waits is in some batch: with a small limit all is full.
        self.policy.max_size = 7
        self.former.resized()
        if self.learning is not None:
            self.learning.max_wait_s = 0.0
        else:
            self.former.policy.wait_s = 0.0  # type: ignore[attr-defined]
        for _ in range(10_000):
            if not self.former.waiting:
                break
            batch = self.former.take(self.now + 100.0)
            self.take_refused()
            if batch is None:
                break
            for item in batch.items:
                self.waiting[item.key].remove(item)
        assert not any(self.waiting.values())
        assert self.former.waiting == 0


TestFormer = FormerMachine.TestCase
TestFormer.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
