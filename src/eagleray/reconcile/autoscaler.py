"""Decides how many replicas the load of one deployment asks for. Pure: it is told the time and reads nothing else.

What Ray Serve computes (surface 6.6), by monotonic time instead of loop ticks: load over target gives a wish, factors
damp it, delays make it wait, bounds hold it. A deployment without replicas is woken by the first call that waits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from eagleray.reconcile.load import LoadWindow, Sample
from eagleray.reconcile.scaling import ScalingRules
from eagleray.spec.latency import replicas_for

_EPSILON = 1e-9
"""Rounding of means and quotients must not cost a replica."""

_MOST = 1e9
"""More than any bound: what policies and tiny targets ask for may be infinite, which no integer is."""

LEAST_PERIOD_S = 0.1
"""Between two looks at a load that changes nothing by itself but slides through the window."""


class Wish(NamedTuple):
    """The count that should be in force, and why."""

    num_replicas: int
    reason: str


class Autoscaler:
    """Of one deployment, in memory only: after a restart of the controller it begins with an empty window."""

    def __init__(self, rules: ScalingRules) -> None:
        self.rules = rules
        self.load = LoadWindow(rules.look_back_s, rules.interval_s)
        self._replicas = LoadWindow(rules.look_back_s, float("inf"))
        self._listens_from: float | None = None
        self.desired = 0.0
        """Replicas that the load, or the policy, asked for last, before factors, bounds and delays."""
        self._direction = 0
        self._since = 0.0
        self._wished = 0

    def change_rules(self, rules: ScalingRules) -> None:
        """Other rules for the same deployment; what is known of its load stays."""
        self.rules = rules
        self.load.adapt(rules.look_back_s, rules.interval_s)
        self._direction = 0

    def tell(self, source: str, sample: Sample) -> None:
        """A router has told its load."""
        self.load.add(source, sample)

    @property
    def total(self) -> int:
        """Calls that wait or run now."""
        return self.load.latest()

    def total_over_window(self, now: float) -> float:
        """Calls that waited or ran, aggregated over the window as the rules say."""
        return self.load.aggregate(now, self.rules.aggregation)

    def decide(
        self, now: float, running: int, target: int, *, bounds: tuple[int, int], wanted: float | None = None
    ) -> Wish | None:
        """The count to be in force from now on; None leaves `target`.

        `running` replicas are up, `wanted` is what a policy of the user's has computed.
        """
        low, high = bounds
        if self._listens_from is None:
            self._listens_from = now
        self.load.prune(now)
        if self.rules.policy_kind == "latency":
            self._replicas.add("", Sample(now, 0, running, 0))
            self._replicas.prune(now)
        if not low <= target <= high:
            self._direction = 0
            return Wish(min(max(target, low), high), f"bounds are {low} to {high}")
        if running == 0:
            self._direction = 0
            return self._wake(target, low, high, wanted)
        rules = self.rules
        if wanted is None and rules.is_custom:
            self._direction = 0  # nobody wants it any more: what is due would stay due
            return None  # its policy has not answered
        total = self.total_over_window(now)
        self.desired = desired = self._desired(now, running, total) if wanted is None else wanted
        count = min(max(self._damped(running, desired), low), high)
        if count < target and now < self._settled_at(now):
            count = target  # a new controller has not heard of all load yet
        if count == target:
            self._direction = 0
            return None
        direction = 1 if count > target else -1
        if direction != self._direction:
            self._direction, self._since = direction, now
        if count < target:
            count = max(count, 1) if target > 1 else count
        self._wished = count
        if now - self._since < self._delay_s(target):
            return None
        self._direction = 0
        return Wish(count, self._reason(total, wanted, running))

    def next_at(self, now: float, target: int) -> float | None:
        """When to decide again although nothing is told; None: when something is."""
        at = None
        if not self.load.is_flat(now):
            at = now + max(min(self.rules.interval_s, self.rules.look_back_s / 5), LEAST_PERIOD_S)
        elif self.load.latest():
            at = now + self.load.stale_s  # silence must be noticed
        if target > self.rules.bounds[0] and now < self._settled_at(now):
            at = self._settled_at(now) if at is None else min(at, self._settled_at(now))
        if self._direction:
            due = self._since + self._delay_s(target)
            at = due if at is None else min(at, due)
        return at

    @property
    def scaling_status(self) -> str:
        """What it is about to do, in the words of `autoscaling_detail`."""
        return {1: "UPSCALING", -1: "DOWNSCALING", 0: "STABLE"}[self._direction]

    def _settled_at(self, now: float) -> float:
        """When all routers have had the time to tell their load; nothing goes before."""
        first = now if self._listens_from is None else self._listens_from
        return first + self.rules.look_back_s

    def _wake(self, target: int, low: int, high: int, wanted: float | None) -> Wish | None:
        waiting = self.load.latest()
        if target:
            return None
        if wanted:  # by what it knows besides requests: tasks in a queue
            count = min(max(self._damped(0, wanted), low, 1), high)
            return Wish(count, f"the policy asks for {wanted:g} and no replica runs")
        if not waiting:
            return None
        count = min(max(math.ceil(self.rules.up_factor - _EPSILON), low, 1), high)
        return Wish(count, f"{waiting} request(s) wait and no replica runs")

    def _desired(self, now: float, running: int, total: float) -> float:
        rules, load = self.rules, self.load
        if rules.policy_kind != "latency":
            return total / rules.target_ongoing
        return replicas_for(
            rules.p95_s,
            replicas=running,
            served_by=self._replicas.aggregate(now, "mean"),
            ongoing=load.aggregate(now, "mean"),
            per_second=load.rate(now),
            growth=load.growth(now),
            waiting=load.latest(lambda sample: sample.queued) / rules.look_back_s,
        )

    def _damped(self, running: int, desired: float) -> int:
        factor = self.rules.up_factor if desired > running else self.rules.down_factor
        wish = running + factor * (desired - running)
        count = math.ceil(min(max(wish, 0.0), _MOST) - _EPSILON)
        if count == running and math.ceil(desired - _EPSILON) < running:
            count -= 1  # a small factor must not stop half-way
        return max(count, 0)

    def _delay_s(self, target: int) -> float:
        rules = self.rules
        if self._direction > 0:
            return rules.up_delay_s
        return rules.zero_delay_s if target == 1 and self._wished == 0 else rules.down_delay_s

    def _reason(self, total: float, wanted: float | None, running: int) -> str:
        if wanted is not None:
            return f"the policy asks for {wanted:g} at {total:.2f} ongoing requests and {running} replica(s)"
        if self.rules.policy_kind == "latency":
            return f"{total:.2f} ongoing requests, p95 target {self.rules.p95_s * 1000:g} ms, {running} replica(s)"
        return (
            f"{total:.2f} ongoing requests over {self.rules.look_back_s:g} s, target "
            f"{self.rules.target_ongoing:g} per replica, {running} replica(s) running"
        )
