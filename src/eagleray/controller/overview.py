"""How the whole instance is right now, in one small answer: what `eagleray top` shows once a second.

Statuses are read from the world, loads from what processes have told, rates and latencies of deployments and
applications from the last seconds of their history. Those of single replicas, which have no history, lie between this
answer and former ones: nothing is counted for them while nobody asks.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eagleray.base.clock import Clock
from eagleray.controller import columns
from eagleray.controller.chronicle import Chronicle
from eagleray.controller.history import MOST, History
from eagleray.controller.points import quantile
from eagleray.controller.telemetry import HistogramTotal, Telemetry
from eagleray.reconcile.instance import Instance
from eagleray.reconcile.status import application_overview, proxy_status, replica_state
from eagleray.reconcile.target import GRPC_PROXY_KEY, PROXY_KEYS
from eagleray.reconcile.world import World
from eagleray.spec.status import ApplicationStatusOverview, DeploymentStatusOverview

WINDOW_S = 5
"""Rates and latencies are of so many seconds: processes tell once a second, each at its own moment."""

FRESH_S = 0.4
"""Who asks again so soon gets the same answer: any number of readers costs as much as three a second."""

EVENTS = 8
"""The newest ones; more are at /api/v1/events."""

_RATES = ("requests_per_s", "errors_per_s", "p50_ms", "p95_ms", "p99_ms")
_UNKNOWN: dict[str, Any] = dict.fromkeys(_RATES)
_NONE: dict[str, Any] = {**_UNKNOWN, "requests_per_s": 0.0, "errors_per_s": 0.0}
_QUANTILES = (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
_REPLICA = ("application", "deployment", "replica")

Key = tuple[str, ...]
"""Application, deployment, and a replica where one is meant."""


@dataclass(frozen=True)
class _Look:
    """What processes had told at a time."""

    at: float
    latencies: Mapping[Key, HistogramTotal]
    errors: Mapping[Key, float]
    ongoing: Mapping[Key, float]
    queued: Mapping[Key, float]
    memory: Mapping[Key, float]


class Overview:
    """Belongs to the controller's loop. `history` None: nothing is counted in this instance, and rates are null."""

    def __init__(
        self,
        world: World,
        telemetry: Telemetry,
        history: History | None,
        chronicle: Chronicle,
        clock: Clock,
        wall_time_s: Callable[[], float],
    ) -> None:
        self._world = world
        self._telemetry = telemetry
        self._history = history
        self._chronicle = chronicle
        self._clock = clock
        self._wall_time_s = wall_time_s
        self._looks: deque[_Look] = deque()
        self._answered_at = float("-inf")
        self._answer: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The answer as JSON objects, see docs/rest.md. Whoever gets it only reads it."""
        now = self._clock.now()
        if now - self._answered_at >= FRESH_S:
            self._answered_at = now
            self._answer = self._make(now)
        return self._answer

    def _make(self, now: float) -> dict[str, Any]:
        while self._looks and self._looks[0].at < now - WINDOW_S - FRESH_S:
            self._looks.popleft()
        look = self._look(now)
        before = self._looks[0] if self._looks else None
        self._looks.append(look)
        rates = self._rates()
        return {
            "now": self._wall_time_s(),
            "window_s": WINDOW_S,
            "proxies": [
                {
                    "proxy_id": one.row.unique_id,
                    "protocol": "gRPC" if key == GRPC_PROXY_KEY else "HTTP",
                    "status": proxy_status(one.state),
                }
                for key in PROXY_KEYS
                for one in self._world.instances_of(key)
            ],
            "applications": [
                self._application(name, application_overview(self._world, name), rates, look, before)
                for name in self._world.applications
            ],
            "events": self._chronicle.read(limit=EVENTS)["events"],
        }

    def _look(self, now: float) -> _Look:
        telemetry = self._telemetry
        telemetry.before_read()
        return _Look(
            now,
            telemetry.histogram("serve_deployment_processing_latency_ms", _REPLICA),
            telemetry.sum("serve_deployment_error_counter", _REPLICA),
            telemetry.sum("serve_replica_processing_queries", _REPLICA),
            telemetry.sum("serve_deployment_queued_queries", _REPLICA[:2]),
            telemetry.sum("eagleray_process_resident_memory_bytes", _REPLICA),
        )

    def _rates(self) -> defaultdict[Key, dict[str, Any]]:
        """Of the last seconds that are over, by application and deployment."""
        if self._history is None:
            return defaultdict(lambda: _UNKNOWN)
        slot = int(self._history.now())
        span = columns.Span(slot - 1 - WINDOW_S, slot - 1, WINDOW_S, 1)
        series = self._history.series
        # One that has had no request has no history yet, or none of a second that is over; nor has one too many.
        otherwise = _NONE if len(series) < MOST else _UNKNOWN
        found: defaultdict[Key, dict[str, Any]] = defaultdict(lambda: otherwise)
        for key, points in series.items():
            points.catch_up(slot)
            one = columns.series(key, points, span)
            is_known = one["requests_per_s"][0] is not None
            found[key] = {name: one[name][0] for name in _RATES} if is_known else otherwise
        return found

    def _application(
        self,
        name: str,
        overview: ApplicationStatusOverview,
        rates: defaultdict[Key, dict[str, Any]],
        look: _Look,
        before: _Look | None,
    ) -> dict[str, Any]:
        return {
            "name": name,
            "status": overview.status,
            "message": overview.message,
            **rates[name, ""],
            "deployments": [
                self._deployment((name, deployment), one, look)
                | rates[name, deployment]
                | {"replicas": self._replicas((name, deployment), look, before)}
                for deployment, one in overview.deployments.items()
            ],
        }

    def _deployment(self, key: Key, overview: DeploymentStatusOverview, look: _Look) -> dict[str, Any]:
        owner = "#".join(key)
        known = self._world.deployments[owner]
        target = known.target or known.row.stable
        up = [one for one in self._world.instances_of(owner) if one.is_routed]
        allowed = sum((one.next_config or one.row.config).max_ongoing_requests for one in up)
        ongoing = sum(look.ongoing.get((*key, one.row.unique_id), 0.0) for one in up)
        return {
            "name": key[1],
            "status": overview.status,
            "message": overview.message,
            "target_num_replicas": target.num_replicas if target is not None else 0,
            "ongoing": ongoing,
            "queued": max(look.queued.get(key, 0.0), 0.0),
            "saturation": round(ongoing / allowed, 4) if allowed else None,
        }

    def _replicas(self, key: Key, look: _Look, before: _Look | None) -> list[dict[str, Any]]:
        return [self._replica(key, one, look, before) for one in self._world.instances_of("#".join(key))]

    def _replica(self, owner: Key, one: Instance, look: _Look, before: _Look | None) -> dict[str, Any]:
        row = one.row
        key = (*owner, row.unique_id)
        return {
            "replica_id": row.unique_id,
            "state": replica_state(row.state),
            "is_healthy": one.is_routed and not one.misses,
            "pid": row.pid or None,
            "start_time_s": row.started_at,
            "ongoing": look.ongoing.get(key, 0.0),
            "saturation": _share(look.ongoing.get(key, 0.0), one),
            "memory_bytes": look.memory.get(key),
            **(_between(before, look, key) if before is not None and self._history is not None else _UNKNOWN),
        }


def _share(ongoing: float, one: Instance) -> float | None:
    allowed = (one.next_config or one.row.config).max_ongoing_requests
    return round(ongoing / allowed, 4) if one.is_routed and allowed else None


def _between(before: _Look, look: _Look, key: Key) -> dict[str, Any]:
    """Rates and latencies of one replica between two looks."""
    seconds = look.at - before.at
    errors = look.errors.get(key, 0.0) - before.errors.get(key, 0.0)
    rates = {**_NONE, "errors_per_s": round(max(errors, 0.0) / seconds, 3)}
    total, former = look.latencies.get(key), before.latencies.get(key)
    if total is None:
        return rates
    counts = total.counts
    if former is not None and former.bounds == total.bounds:
        counts = [max(a - b, 0) for a, b in zip(counts, former.counts, strict=True)]
    if requests := sum(counts):
        rates["requests_per_s"] = round(requests / seconds, 3)
        rates |= {name: round(quantile(total.bounds, counts, share), 3) for name, share in _QUANTILES}
    return rates
