"""Forming batches of waiting items, without I/O and without a clock: time is passed in.

Items wait in groups, and only items of one group may share a batch. A group is first in, first out: an item that does
not fit any more opens the next batch, and nobody overtakes it. When it is worth waiting for more items, and which of
those that wait a batch takes, is a policy's decision: `FixedPolicy` here, a learning one in `batch_target`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What forming a batch must know of an item. `arrived` is in monotonic seconds."""

    @property
    def arrived(self) -> float: ...
    @property
    def is_gone(self) -> bool:
        """Its caller does not wait any more."""


I = TypeVar("I", bound=Waiting)  # noqa: E741 - an item

Measure = Callable[[list[Any]], float]
"""Size of a batch of these items; user code, which may raise."""


class Policy(Protocol):
    """Sizes are numbers of items, or what `batch_size_fn` says."""

    max_size: int

    def due(self, oldest: float, count: int, size: float, now: float) -> float:
        """When `count` items of this size, the oldest of which came at `oldest`, should start. Past: at once."""

    def choose(self, items: Sequence[Waiting], most: int, each: float, now: float) -> Sequence[int]:
        """Which of these should be in the next batch: between 1 and `most` rising indices. `each`: an item's size."""


class FixedPolicy:
    """A batch starts when it is full, or `wait_s` after its first item came."""

    __slots__ = ("max_size", "wait_s")

    def __init__(self, max_size: int, wait_s: float) -> None:
        self.max_size = max_size
        self.wait_s = wait_s

    def due(self, oldest: float, count: int, size: float, now: float) -> float:
        return oldest + self.wait_s

    def choose(self, items: Sequence[Waiting], most: int, each: float, now: float) -> Sequence[int]:
        return range(most)


class Batch(Generic[I]):
    """Items that start together, with their size."""

    __slots__ = ("items", "size")

    def __init__(self, items: list[I], size: float) -> None:
        self.items = items
        self.size = size


class _Group(Generic[I]):
    """`fitting` items at the front have been measured, to `size`; `is_closed`: the next one does not fit."""

    __slots__ = ("fitting", "is_closed", "items", "size")

    def __init__(self) -> None:
        self.items: list[I] = []
        self.forget_sizes()

    def forget_sizes(self) -> None:
        self.fitting = 0
        self.size = 0.0
        self.is_closed = False


class Former(Generic[I]):
    """All items that wait. With `measure` the size of a batch is its value, else the number of items.

    `refused` collects items that cannot be in any batch, with the reason; whoever drives this takes them out.
    """

    def __init__(self, policy: Policy, measure: Measure | None = None) -> None:
        self.policy = policy
        self.refused: list[tuple[I, BaseException]] = []
        self.waiting = 0
        """Items that were added and not yet taken, refused or found gone."""
        self.due = math.inf
        """When to ask `take` again, as of its last call, if nothing is added meanwhile."""
        self._measure = measure
        self._groups: dict[Hashable, _Group[I]] = {}
        self._gone = 0

    # ---- in --------------------------------------------------------------------------------------------------

    def add(self, key: Hashable, item: I) -> bool:
        """Lets `item` wait in the group `key`. True: that group has a full batch now."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        items = group.items
        items.append(item)
        self.waiting += 1
        if self._measure is None:
            return len(items) >= self.policy.max_size
        self._extend(group)
        if not items:
            del self._groups[key]
        return group.is_closed

    def note_gone(self) -> None:
        """A caller has left; its item is dropped before the next batch, or once the dead outnumber the living."""
        self._gone += 1
        if self._gone * 2 > self.waiting + 64:
            self._drop_gone()

    def resized(self) -> None:
        """The policy's `max_size` has changed: what was measured counts no more."""
        for group in self._groups.values():
            group.forget_sizes()

    # ---- out -------------------------------------------------------------------------------------------------

    def take(self, now: float) -> Batch[I] | None:
        """The batch that should start now, of the group that has waited longest; None: not before `due`."""
        if self._gone:
            self._drop_gone()
        self.due = math.inf
        ready: Hashable = None
        first = math.inf
        for key in tuple(self._groups):
            group = self._groups[key]
            if self._measure is not None:
                self._extend(group)
                if not group.items:
                    del self._groups[key]
                    continue
            arrived = group.items[0].arrived
            due = self._due(group, arrived, now)
            if due > now:
                self.due = min(self.due, due)
            elif arrived < first:
                ready, first = key, arrived
        if first == math.inf:
            return None
        return self._cut(ready, now) or self.take(now)

    @property
    def has_full(self) -> bool:
        """Whether some group has a full batch (as far as callers have not left)."""
        if self._measure is not None:
            return any(group.is_closed for group in self._groups.values())
        limit = self.policy.max_size
        return any(len(group.items) >= limit for group in self._groups.values())

    def _due(self, group: _Group[I], arrived: float, now: float) -> float:
        count = len(group.items)
        if self._measure is not None:
            if group.is_closed:
                return -math.inf
            return self.policy.due(arrived, group.fitting, group.size, now)
        if count >= self.policy.max_size:
            return -math.inf
        return self.policy.due(arrived, count, count, now)

    def _cut(self, key: Hashable, now: float) -> Batch[I] | None:
        """Takes a batch out of a group; None when some of it turns out to be gone."""
        group = self._groups[key]
        items = group.items
        each = 1.0
        if self._measure is None:
            picked = self.policy.choose(items, min(len(items), self.policy.max_size), each, now)
        else:
            each = group.size / group.fitting
            picked = self.policy.choose(items[: group.fitting], group.fitting, each, now)
        taken = [items[index] for index in picked]
        # Whoever left in this very turn of the loop has not been noted yet.
        for item in taken:
            if item.is_gone:
                self._drop_gone()
                return None
        count = len(taken)
        if picked[-1] == count - 1:
            del items[:count]
        else:
            for index in reversed(picked):
                del items[index]
        self.waiting -= count
        group.forget_sizes()
        if not items:
            del self._groups[key]
        return Batch(taken, each * count)

    def _drop_gone(self) -> None:
        self._gone = 0
        for key in tuple(self._groups):
            group = self._groups[key]
            alive = [item for item in group.items if not item.is_gone]
            if len(alive) < len(group.items):
                self.waiting -= len(group.items) - len(alive)
                group.items = alive
                group.forget_sizes()
                if not alive:
                    del self._groups[key]

    # ---- sizes -----------------------------------------------------------------------------------------------

    def _extend(self, group: _Group[I]) -> None:
        """Measures the front of the group, an item more at a time, until the next one does not fit."""
        items = group.items
        limit = self.policy.max_size
        while group.fitting < len(items) and not group.is_closed:
            count = group.fitting + 1
            size, error = self._size_of(items[:count])
            if error is None and size <= limit:
                group.fitting, group.size = count, size
                group.is_closed = size >= limit
                continue
            if group.fitting:
                # Does it not fit, or can it be in no batch at all? Alone it shows.
                size, error = self._size_of([items[group.fitting]])
            if error is None and size <= limit:
                group.is_closed = True
            else:
                item = items.pop(group.fitting)
                self.waiting -= 1
                self.refused.append((item, error or too_large(size, limit)))

    def _size_of(self, items: list[I]) -> tuple[float, BaseException | None]:
        assert self._measure is not None
        try:
            size = float(self._measure(items))
            if math.isnan(size):
                raise ValueError("batch_size_fn has returned nan.")
        except BaseException as error:  # user code: whatever it raises is the answer to one request
            return 0.0, error
        return size, None


def too_large(size: float, limit: int) -> RuntimeError:
    """What the caller of an item gets that is larger than a whole batch."""
    return RuntimeError(
        f"The size of this item is {size:g} by batch_size_fn, which is more than max_batch_size={limit}, so no batch "
        f"can hold it. Send smaller items or raise max_batch_size."
    )
