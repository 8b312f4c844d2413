"""When requests are to leave: arrivals of an open loop, and how many are left of either loop. No clock, no drift.

A constant rate is what a fair comparison needs; a Poisson process is what many independent clients make.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count

from eagleray.loadtest.plan import Plan


def constant(rate: float) -> Iterator[float]:
    """Seconds after the start: `rate` a second, the first at once. Errors of rounding do not add up."""
    return (number / rate for number in count())


def poisson(rate: float, draw: Callable[[float], float]) -> Iterator[float]:
    """The same, `rate` a second on average; `draw(rate)` is the time to the next one: `Random(seed).expovariate`."""
    at = 0.0
    while True:
        at += draw(rate)
        yield at


class Schedule:
    """What is still to be sent. Times are absolute; those before `began` are the warm-up and do not count.

    Of an open loop, made with its arrivals, `next` is when the next request is to leave: long past when sending cannot
    keep up, infinite when there is none. A closed loop asks with `take` whether one more may leave.
    """

    __slots__ = ("_arrivals", "_ends", "_left", "_started", "began", "next")

    def __init__(
        self,
        started: float,
        began: float,
        ends: float,
        requests: int | None,
        arrivals: Iterator[float] | None,
    ) -> None:
        self.began = began
        self.next = math.inf
        self._started = started
        self._ends = ends
        self._left = requests
        self._arrivals = arrivals
        if arrivals is not None:
            self.advance()

    @classmethod
    def of(cls, plan: Plan, now: float, draw: Callable[[float], float]) -> Schedule:
        """That of a plan which begins now; see `poisson` for `draw`."""
        times = None
        if plan.rate is not None:
            times = poisson(plan.rate, draw) if plan.is_poisson else constant(plan.rate)
        began = now + plan.warm_up_s
        return cls(now, began, began + plan.duration_s, plan.requests, times)

    def advance(self) -> None:
        """The next one of an open loop has left, or never will."""
        assert self._arrivals is not None
        at = self._started + next(self._arrivals)
        if at >= self._ends or self._left == 0:
            at = math.inf
        elif self._left is not None and at >= self.began:
            self._left -= 1
        self.next = at

    def take(self, now: float) -> bool:
        """Whether one more request of a closed loop leaves now."""
        if now >= self._ends or self._left == 0:
            return False
        if self._left is not None and now >= self.began:
            self._left -= 1
        return True

    def end(self) -> None:
        """Nothing more is to leave."""
        self.next = math.inf
        self._ends = -math.inf

    def is_exhausted(self, now: float) -> bool:
        """Nothing will leave any more."""
        return self.next == math.inf and (now >= self._ends or self._left == 0)
