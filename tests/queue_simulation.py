"""Replicas with one queue before them on virtual time, for policies of autoscaling. No clock, no processes."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

from eagleray.reconcile.autoscaler import Autoscaler
from eagleray.reconcile.load import Sample
from eagleray.reconcile.scaling import ScalingRules

START_S = 2.0
"""From the decision to a replica that serves."""


class Queue:
    """Calls come by a Poisson process whose rate changes with time, and take exponential times of `mean_s`."""

    def __init__(self, rate: Callable[[float], float], peak: float, mean_s: float, seed: int) -> None:
        self.random = random.Random(seed)
        self.rate, self.peak, self.mean_s = rate, peak, mean_s
        self.now = 0.0
        self.waiting: deque[float] = deque()
        self.ending: list[tuple[float, float]] = []
        self.starting: list[float] = []
        self.replicas = 0
        self.responses: list[float] = []
        self.replica_seconds = 0.0

    def resize(self, count: int) -> None:
        """New replicas need a while, others go at once when they are idle or have ended their call."""
        missing = count - self.replicas - len(self.starting)
        for _ in range(missing):
            heapq.heappush(self.starting, self.now + START_S)
        for _ in range(-missing):
            if self.starting:
                self.starting.pop()
            else:
                self.replicas -= 1

    def run(self, until: float) -> None:
        arrival = self._next_arrival()
        while True:
            ends = self.ending[0][0] if self.ending else float("inf")
            starts = self.starting[0] if self.starting else float("inf")
            at = min(arrival, ends, starts, until)
            self.replica_seconds += (at - self.now) * (self.replicas + len(self.starting))
            self.now = at
            if at == until:
                return
            if at == ends:
                _, came = heapq.heappop(self.ending)
                self.responses.append(at - came)
            elif at == starts:
                heapq.heappop(self.starting)
                self.replicas += 1
            else:
                self.waiting.append(at)
                arrival = self._next_arrival()
            while self.waiting and len(self.ending) < self.replicas:
                took = self.random.expovariate(1 / self.mean_s)
                heapq.heappush(self.ending, (self.now + took, self.waiting.popleft()))

    def _next_arrival(self) -> float:
        at = self.now
        while True:
            at += self.random.expovariate(self.peak)
            if self.random.random() * self.peak < self.rate(at):
                return at

    def sample(self) -> Sample:
        return Sample(self.now, len(self.waiting), len(self.ending), len(self.responses))

    def p95(self) -> float:
        return sorted(self.responses)[int(0.95 * len(self.responses))]


def fixed(queue: Queue, count: int, seconds: float) -> Queue:
    """The whole trace with a fixed count."""
    queue.resize(count)
    queue.run(seconds)
    return queue


def scaled(queue: Queue, rules: ScalingRules, seconds: int) -> tuple[Queue, list[int]]:
    """The whole trace under the autoscaler; also its count, sample by sample."""
    scaler, target, counts = Autoscaler(rules), rules.low, []
    queue.resize(target)
    while queue.now < seconds:
        queue.run(queue.now + rules.interval_s)
        scaler.tell("proxy", queue.sample())
        wish = scaler.decide(queue.now, queue.replicas, target, bounds=rules.bounds)
        if wish is not None:
            target = wish.num_replicas
            queue.resize(target)
        counts.append(target)
    return queue, counts
