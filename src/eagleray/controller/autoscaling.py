"""Hears the load of autoscaled deployments and has their counts changed; what it decides by is in `reconcile`.

It looks at a deployment when a router tells something, when replicas come or go, and when a delay has passed: an idle
instance sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec

from eagleray.base.clock import Clock, wall_time_s
from eagleray.reconcile.autoscaler import Autoscaler
from eagleray.reconcile.events import Autoscaled, Event
from eagleray.reconcile.load import Sample
from eagleray.reconcile.scaling import ScalingRules
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import World
from eagleray.wire.scaling import LoadReport


class Autoscaling:
    """Reads the world and never changes it: `post` takes the decisions. Belongs to the controller's loop."""

    def __init__(self, world: World, post: Callable[[Event], None], clock: Clock) -> None:
        self._world = world
        self._post = post
        self._clock = clock
        self._scalers: dict[str, Autoscaler] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._due: dict[str, float] = {}
        self._wanted: dict[str, float] = {}
        self._errors: dict[str, str] = {}
        self.policy_ms: dict[str, float] = {}
        """How long the last decision about each deployment took, in its policy."""
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, report: LoadReport) -> None:
        """A router's load. Deployments that do not scale, any more, are passed over."""
        now = self._clock.now()
        for key, (queued, running, answered) in report.loads.items():
            scaler = self._scalers.get(key)
            if scaler is not None:
                scaler.tell(report.subscriber, Sample(now, queued, running, answered))
                self._look(key, scaler, now)
        self._arm()

    def forget(self, subscriber: str) -> None:
        """The router has gone, and its requests with it."""
        now = self._clock.now()
        for key, scaler in self._scalers.items():
            if scaler.load.drop(subscriber):
                self._look(key, scaler, now)
        self._arm()

    def refresh(self) -> None:
        """After a pass of the controller: deployments, their rules or their replicas may be others."""
        now = self._clock.now()
        world = self._world
        for key in [key for key in self._scalers if self._target(key) is None]:
            del self._scalers[key], self._seen[key]
            for known in (self._due, self._wanted, self._errors, self.policy_ms):
                known.pop(key, None)
        for key in world.deployments:
            target = self._target(key)
            if target is None or target.rules is None:
                continue
            scaler = self._scalers.get(key)
            if scaler is None:
                scaler = self._scalers[key] = Autoscaler(target.rules)
            elif scaler.rules != target.rules:
                scaler.change_rules(target.rules)
                self._seen.pop(key, None)
                self._wanted.pop(key, None)
                self._errors.pop(key, None)
            seen = (self._running(key), target.num_replicas)
            if self._seen.get(key) != seen:
                self._seen[key] = seen
                self._look(key, scaler, now)
        self._arm()

    def detail(self, key: str) -> dict[str, Any] | None:
        """`autoscaling_detail` of a deployment (surface 5.4); None when it does not scale."""
        scaler, deployment = self._scalers.get(key), self._world.deployments.get(key)
        if scaler is None or deployment is None:
            return None
        scaling = deployment.row.scaling
        now = self._clock.now()
        return {
            "scaling_status": scaler.scaling_status,
            "decisions": [msgspec.to_builtins(one) for one in scaling.decisions] if scaling else [],
            "metrics": {
                "total_requests": scaler.total_over_window(now),
                "queued_requests": scaler.load.latest(lambda sample: sample.queued),
                "requests_per_second": scaler.load.rate(now),
            },
            "metrics_health": "healthy" if scaler.load.is_known else "unavailable",
            "errors": [self._errors[key]] if key in self._errors else [],
        }

    def numbers(self, key: str) -> dict[str, float]:
        """What is shown of a deployment that scales: one of `rules`."""
        scaler, target = self._scalers[key], self._target(key)
        return {
            "target": target.num_replicas if target is not None else 0,
            "desired": scaler.desired,
            "total": scaler.total_over_window(self._clock.now()),
            "ongoing": scaler.rules.target_ongoing,
            "policy_ms": self.policy_ms.get(key, 0.0),
        }

    # ---- policies of users ------------------------------------------------------------------------------------

    @property
    def rules(self) -> dict[str, ScalingRules]:
        """Those of all deployments that scale, by key, but for those that an update has dropped."""
        return {key: scaler.rules for key, scaler in self._scalers.items() if not self._is_dropped(key)}

    def wanted(self, key: str, count: float) -> None:
        """The deployment's policy asks for so many replicas, until it says something else."""
        self._errors.pop(key, None)
        self._wanted[key] = count
        scaler = self._scalers.get(key)
        if scaler is not None:
            self._look(key, scaler, self._clock.now())
            self._arm()

    def failed(self, key: str, error: str) -> None:
        """The deployment's policy has failed: its count stays."""
        self._errors[key] = error
        self._wanted.pop(key, None)

    def context(self, key: str) -> dict[str, Any] | None:
        """What a policy of the user's is told of the deployment and its load, as JSON types."""
        scaler, target = self._scalers.get(key), self._target(key)
        if scaler is None or target is None:
            return None
        now, load, how = self._clock.now(), scaler.load, scaler.rules.aggregation
        scaling = self._world.deployments[key].row.scaling
        decisions = scaling.decisions if scaling is not None else ()
        ups = [one.timestamp_s for one in decisions if one.curr_num_replicas > one.prev_num_replicas]
        downs = [one.timestamp_s for one in decisions if one.curr_num_replicas < one.prev_num_replicas]
        low, high = scaler.rules.bounds
        total, rate = scaler.total_over_window(now), load.rate(now)
        return {
            "current_num_replicas": self._running(key),
            "target_num_replicas": target.num_replicas,
            "running_replicas": [one.row.unique_id for one in self._world.instances_of(key) if one.is_listed],
            "total_num_requests": total,
            "total_queued_requests": load.aggregate(now, how, lambda sample: sample.queued),
            "total_running_requests": load.aggregate(now, how, lambda sample: sample.running),
            "capacity_adjusted_min_replicas": low,
            "capacity_adjusted_max_replicas": high,
            "last_scale_up_time": ups[-1] if ups else None,
            "last_scale_down_time": downs[-1] if downs else None,
            "current_time": wall_time_s(),
            "config": {**target.options["autoscaling_config"], "policy": {}},
            "requests_per_second": rate,
            # By Little's law: calls that wait or run, over calls that end in a second.
            "average_latency_ms": 1000.0 * load.aggregate(now, "mean") / rate if rate > 0 else 0.0,
        }

    def close(self) -> None:
        """Decides nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._scalers.clear()
        self._due.clear()

    # ---- one deployment ---------------------------------------------------------------------------------------

    def _target(self, key: str) -> Target | None:
        """What its count is that of: what serves, not a declared version whose update is given up; one that was dropped
        has it for as long as it is called."""
        deployment = self._world.deployments.get(key)
        target = deployment.serving or deployment.kept if deployment is not None else None
        return target if target is not None and target.rules is not None else None

    def _is_dropped(self, key: str) -> bool:
        deployment = self._world.deployments.get(key)
        return deployment is None or deployment.target is None

    def _running(self, key: str) -> int:
        return sum(one.is_listed for one in self._world.owned.get(key, {}).values())

    def _look(self, key: str, scaler: Autoscaler, now: float) -> None:
        target = self._target(key)
        if target is None or (self._is_dropped(key) and self._running(key)):
            self._due.pop(key, None)  # one that was dropped is only woken
            return
        began = perf_counter()
        wish = scaler.decide(
            now,
            self._running(key),
            target.num_replicas,
            bounds=scaler.rules.bounds,
            wanted=None if self._is_dropped(key) else self._wanted.get(key),
        )
        if not scaler.rules.is_custom:
            self.policy_ms[key] = (perf_counter() - began) * 1000.0
        if wish is not None and wish.num_replicas != target.num_replicas:
            self._post(Autoscaled(key, wish.num_replicas, wish.reason, wall_time_s()))
        at = scaler.next_at(now, target.num_replicas)
        if at is None:
            self._due.pop(key, None)
        else:
            self._due[key] = at

    def _arm(self) -> None:
        """One timer for the deployment that is due first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            delay = max(min(self._due.values()) - self._clock.now(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay + 0.001, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        now = self._clock.now()
        for key in [key for key, at in self._due.items() if at <= now]:
            del self._due[key]
            self._look(key, self._scalers[key], now)
        self._arm()
