"""What a replica counts of its calls: Ray Serve's series of replicas, and a few of our own.

A call costs a clock, a dictionary and some additions: the series of a route are looked up by the route that the call
already has, and gauges are read from what is there anyway when somebody collects. Belongs to the user's loop; user code
in threads is counted when its answer comes back to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.metrics import Gathered, Registry
from eagleray.replica.slots import Slots

REPLICA_LABELS = ("deployment", "replica", "application")
"""What every series of a replica says first."""

_SLOT_S = 10.0
_SLOTS = 6
"""The largest latency is that of the last 60 s, in steps of 10 s."""
_BUSY_WINDOW_S = 600.0
"""Seconds over which a replica's use is told."""
_MOST_KNOWN = 1024
"""Routes that are looked up without asking the registry: it bounds the series, this bounds the dictionary."""


Route = str | tuple[str, str]
"""A route prefix, or one and the pattern below it that an ASGI application has matched."""


def pattern_of(scope: dict[str, Any] | None) -> str:
    """The route that an ASGI application has matched, below the prefix of the application; "" if that is not known."""
    found = getattr(scope.get("route"), "path", "") if scope is not None else ""  # as FastAPI leaves it
    return found if type(found) is str else ""


def route_of(prefix: str, scope: dict[str, Any] | None) -> Route:
    """What a request is counted under; `scope` is what an ASGI application has got."""
    pattern = pattern_of(scope)
    return (prefix, pattern) if pattern else prefix


def text_of(route: Route) -> str:
    """The value of the label `route`."""
    if isinstance(route, str):
        return route
    prefix, pattern = route
    return prefix.rstrip("/") + pattern


class RouteSeries(Gathered):
    """The latencies of one route, whose number is that of its requests, and the largest of late."""

    __slots__ = ("clock", "peak", "peaks", "slot_ends_at")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.clock: Callable[[], float] | None = None
        self.peak = 0.0
        self.slot_ends_at = 0.0
        self.peaks: deque[tuple[float, float]] = deque(maxlen=_SLOTS)
        """(end, largest latency) of the slots before the present one; those that are too old may be among them."""

    def _count(self, found: list[float]) -> None:
        super()._count(found)
        if self.clock is not None and (now := self.clock()) >= self.slot_ends_at:
            self._turn(now)
        self.peak = max(self.peak, found[-1])

    def _turn(self, now: float) -> None:
        """The present slot has ended."""
        if self.peak:
            self.peaks.append((self.slot_ends_at, self.peak))
        self.peak = 0.0
        self.slot_ends_at = now + _SLOT_S

    def largest_ms(self, now: float) -> float:
        """The largest latency of the last 60 s. Another thread may ask."""
        self.settle()
        since = now - _SLOT_S * _SLOTS
        peaks = (*tuple(self.peaks), (self.slot_ends_at, self.peak))
        return max((peak for ends_at, peak in peaks if ends_at >= since), default=0.0)


class ReplicaMetrics:
    """The series of one replica, in `registry`."""

    def __init__(
        self,
        registry: Registry,
        labels: tuple[str, str, str],
        slots: Slots,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`labels`: deployment, replica, application."""
        self.registry = registry
        self.labels = labels
        self._slots = slots
        self.clock = clock
        names = REPLICA_LABELS
        self.requests = registry.counter(
            "serve_deployment_request_counter", "Requests that the replica has processed.", *names, "route"
        )
        self.latency = registry.histogram(
            "serve_deployment_processing_latency_ms", "Time in user code, in milliseconds.", *names, "route"
        )
        self.largest = registry.gauge(
            "serve_deployment_max_processing_latency_ms",
            "Largest time in user code within 60 seconds, in milliseconds.",
            *names,
            "route",
        )
        self._errors = registry.counter(
            "serve_deployment_error_counter",
            "Exceptions that user code has let escape.",
            *names,
            "route",
            "exception_type",
        )
        self._cancelled = registry.counter(
            "eagleray_replica_cancelled_requests",
            "Requests whose caller went away before they had ended.",
            *names,
            "route",
        )
        self._count_replica(registry, labels)
        self._routes: dict[Route, RouteSeries] = {}
        self._busy: deque[tuple[float, float]] = deque([(clock(), 0.0)])
        """(time, milliseconds in user code until then), every 10 s."""
        self._utilization = 0.0

    def _count_replica(self, registry: Registry, labels: tuple[str, str, str]) -> None:
        """What has no route."""
        names, slots = REPLICA_LABELS, self._slots
        rejected = registry.counter(
            "eagleray_replica_rejected_requests",
            "Calls that were sent here and refused: the replica was full or stopping. Their router tries elsewhere.",
            *names,
        )
        self._rejected = rejected.value(*labels)
        expired = registry.counter(
            "eagleray_replica_expired_requests", "Calls whose deadline had passed before they began.", *names
        )
        self._expired = expired.value(*labels)
        starts = registry.counter("serve_deployment_replica_starts", "Starts of the replica.", *names)
        self._starts = starts.value(*labels)
        processing = registry.gauge(
            "serve_replica_processing_queries", "Requests in the replica now.", *names
        )
        processing.read(lambda: slots.ongoing, *labels)
        utilization = registry.gauge(
            "serve_replica_utilization_percent",
            "Time in user code over 600 seconds, as a share of what max_ongoing_requests allows.",
            *names,
        )
        utilization.read(self.utilization_percent, *labels)

    # ---- of calls --------------------------------------------------------------------------------------------

    def ended(self, route: Route, begun_at: float, now: float) -> int:
        """User code has processed a request that it got at `begun_at`; returns the microseconds since.

        Times are those of `clock`.
        """
        series = self._routes.get(route) or self._open(route)
        took_ms = (now - begun_at) * 1000.0
        values = series.values
        values.append(took_ms)
        if len(values) >= series.ENOUGH:
            series.settle()
        return int(took_ms * 1000.0)

    def exemplify(self, route: Route, trace_id: str, took_ms: float) -> None:
        """A request that was counted under `route` is recorded in that trace."""
        series = self._routes.get(route)
        if series is not None:
            series.exemplar = (trace_id, took_ms, wall_time_s())

    def failed(self, route: Route, kind: str) -> None:
        """User code has raised an exception of that name."""
        self._errors.value(*self.labels, text_of(route), kind).inc()

    def cancelled(self, route: Route) -> None:
        """A request has ended because nobody waits for it any more."""
        self._cancelled.value(*self.labels, text_of(route)).inc()

    def rejected(self) -> None:
        """A call was refused."""
        self._rejected.inc()

    def expired(self) -> None:
        """A call came too late."""
        self._expired.inc()

    def started(self) -> None:
        """The replica is ready."""
        self._starts.inc()

    def _open(self, route: Route) -> RouteSeries:
        if len(self._routes) >= _MOST_KNOWN:
            self._routes.clear()
        labels = (*self.labels, text_of(route))
        series = self._routes[route] = self.latency.distribution_as(RouteSeries, *labels)
        if series.clock is None:
            series.clock = self.clock
            self.requests.read(series.total, *labels)
            self.largest.read(lambda: series.largest_ms(self.clock()), *labels)
        return series

    # ---- when somebody collects --------------------------------------------------------------------------------

    def utilization_percent(self) -> float:
        """Counted when requests end, every 10 s at most: an idle replica soon has nothing new to say."""
        now, past = self.clock(), self._busy
        if now - past[-1][0] < _SLOT_S:
            return self._utilization
        for series in tuple(self._routes.values()):
            series.settle()
        total = sum(series.sum for series in tuple(self._routes.values()))
        past.append((now, total))
        while len(past) > 2 and past[1][0] <= now - _BUSY_WINDOW_S:
            past.popleft()
        since, before = past[0]
        allowed_ms = (now - since) * 1000.0 * self._slots.limit
        self._utilization = min(100.0, max(0.0, round(100.0 * (total - before) / allowed_ms, 1)))
        return self._utilization
