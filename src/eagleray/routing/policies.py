"""Choosing a replica: pure functions over what a router knows of its targets.

A policy gets the targets of one deployment and returns one that has room, or None. It never waits and does no I/O.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What a policy may know of a replica."""

    @property
    def has_room(self) -> bool: ...
    @property
    def score(self) -> int: ...


C = TypeVar("C", bound=Candidate)


def power_of_two(targets: Sequence[C], randrange: Callable[[int], int] = random.randrange) -> C | None:
    """The less loaded of two targets drawn at random (Mitzenmacher, 2001); all are tried before giving up.

    Two draws keep several routers from stampeding to the one replica that all of them believe to be idle.
    """
    count = len(targets)
    if count == 1:
        only = targets[0]
        return only if only.has_room else None
    if count == 0:
        return None
    first = randrange(count)
    second = randrange(count - 1)
    a, b = targets[first], targets[second if second < first else second + 1]
    if a.has_room:
        return b if b.has_room and b.score < a.score else a
    if b.has_room:
        return b
    if count == 2:
        return None
    return min((t for t in targets if t.has_room), key=lambda t: t.score, default=None)
