"""A server of batches in virtual time: Poisson arrivals, a model whose time depends on the size of a batch, one policy.

What `BatchQueue` does with a loop and its timers, done with a heap of events, so that a minute takes a moment.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from eagleray.serve.batch_policy import FixedPolicy, Former
from eagleray.serve.batch_target import TargetPolicy

ARRIVAL, END, TIMER = range(3)


@dataclass
class Item:
    arrived: float
    is_gone: bool = False


@dataclass
class Outcome:
    """Times from arrival to answer, in the order of the answers, with the times of the answers."""

    latencies: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def share_within(self, target_s: float, since: float = 0.0) -> float:
        counted = [
            latency for latency, end in zip(self.latencies, self.ended, strict=True) if end - latency >= since
        ]
        return sum(latency <= target_s for latency in counted) / len(counted)

    @property
    def mean_s(self) -> float:
        return sum(self.latencies) / len(self.latencies)

    def quantile_s(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


def simulate(
    policy: FixedPolicy | TargetPolicy,
    arrivals: Callable[[random.Random, float], float],
    model: Callable[[random.Random, float, int], float],
    seconds: float,
    *,
    concurrency: int = 1,
    seed: int = 0,
) -> Outcome:
    """`arrivals(random, now)` gives the gap to the next item, `model(random, now, size)` the seconds of a batch."""
    chance = random.Random(seed)
    former: Former[Item] = Former(policy)
    learns = policy if isinstance(policy, TargetPolicy) else None
    outcome = Outcome()
    events: list[tuple[float, int, int, object]] = [(arrivals(chance, 0.0), 0, ARRIVAL, None)]
    number = running = 0
    alarm = math.inf

    def push(at: float, kind: int, what: object) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (at, number, kind, what))

    def pump(now: float) -> None:
        nonlocal running, alarm
        while former.waiting and running < concurrency:
            batch = former.take(now + 1e-9)
            if batch is None:
                if former.due != alarm and former.due < math.inf:
                    alarm = former.due
                    push(alarm, TIMER, alarm)
                return
            running += 1
            push(now + model(chance, now, len(batch.items)), END, (batch, now))

    while events:
        now, _, kind, what = heapq.heappop(events)
        if kind == ARRIVAL:
            former.add(0, Item(now))
            if learns is not None:
                learns.arrived(1, now)
            if now < seconds:
                push(now + arrivals(chance, now), ARRIVAL, None)
        elif kind == END:
            batch, started = what  # type: ignore[misc]
            running -= 1
            for item in batch.items:
                outcome.latencies.append(now - item.arrived)
                outcome.ended.append(now)
            outcome.sizes.append(len(batch.items))
            if learns is not None:
                learns.done(batch.items, batch.size, started, now)
        elif what == alarm:
            alarm = math.inf
        pump(now)
    return outcome


def poisson(rate: float) -> Callable[[random.Random, float], float]:
    """Arrivals that know nothing of each other, `rate` per second."""
    return lambda chance, now: chance.expovariate(rate)


def linear(
    fixed_s: float, per_item_s: float, noise: float = 0.02
) -> Callable[[random.Random, float, int], float]:
    """A model of fixed_s + per_item_s * n, give or take `noise` of it."""
    return lambda chance, now, size: (fixed_s + per_item_s * size) * (1 + noise * abs(chance.gauss(0, 1)))
