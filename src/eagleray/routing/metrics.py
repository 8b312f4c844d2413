"""What a router counts: calls that enter, what becomes of them, and where their time goes.

The series of a deployment are resolved when its pool is opened, those of a route with its first call. Numbers that the
pool has anyway are read from it when somebody collects. Belongs to the router's loop, but for `entered_alone`.

All calls are counted, but the times of at most about 100 a second for each route are measured: to measure all would
cost a proxy at full load more than all else that is counted here. They are told by hop: `route`, in a proxy, from
a call's arrival until it is to be sent; `queue`, waiting for a replica; `execute`, in user code, as the replica says;
`network`, the rest until the answer begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from eagleray.base.metrics import OVERFLOW, Metric, Registry, Waits

if TYPE_CHECKING:
    from eagleray.routing.call import RoutedCall
    from eagleray.routing.pool import Pool
    from eagleray.routing.target import Target

HOP_MS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 60000)
"""Buckets of hops, in milliseconds: most take less than one."""

Origin = tuple[str, str]
"""What kind of process routes (PROXY, REPLICA, DRIVER; Ray Serve's `handle_source`), and which one."""

_MEASURED_EVERY_S = 0.01
_MOST_UNMEASURED = 512
"""Calls from one that is measured to the next, at most."""
_TOLD_S = 30.0
"""Seconds after which a collector has seen a value."""
_MOST_KNOWN = 100
"""Routes of calls to one deployment that are told apart."""
_HANDLE = ("deployment", "application", "handle", "actor_id")
_ROUTER = ("deployment", "actor_id", "application", "handle_source")
_HOPS = ("queue", "route", "execute", "network")
_TASKS = ("app", "deployment", "actor_id", "application", "handle_source")


class RouterMetrics:
    """The metrics of one router, in `registry`; `of` gives those of a pool."""

    def __init__(self, registry: Registry, origin: Origin, clock: Callable[[], float]) -> None:
        self.origin = origin
        self.clock = clock
        counter, gauge, histogram = registry.counter, registry.gauge, registry.histogram
        self.handle_requests = counter(
            "serve_handle_request_counter",
            "Calls by handles.",
            *("handle", "deployment", "route", "application"),
        )
        self.router_requests = counter(
            "serve_num_router_requests",
            "Calls that have come to a router.",
            *("deployment", "route", "application", "handle", "actor_id"),
        )
        self.queued = gauge("serve_deployment_queued_queries", "Calls that wait for a replica.", *_HANDLE)
        self.ongoing = gauge(
            "serve_num_ongoing_requests_at_replicas", "Calls of this router at replicas.", *_HANDLE
        )
        self.reserved = gauge(
            "serve_reserved_slots_active", "Slots that `choose_replica` holds for calls to come.", *_HANDLE
        )
        self.args_resolution = histogram(
            "serve_router_args_resolution_latency_ms",
            "Time until the responses among a call's arguments are there, in milliseconds.",
            *_HANDLE,
        )
        self.tasks = gauge("serve_num_scheduling_tasks", "Calls that are being routed.", *_TASKS)
        self.backing_off = gauge(
            "serve_num_scheduling_tasks_in_backoff",
            "Calls that wait to try again: none, since replicas say when they have room.",
            *_TASKS,
        )
        self.fulfillment = histogram(
            "serve_request_router_fulfillment_time_ms",
            "Time that calls have waited for a replica, in milliseconds.",
            *_ROUTER,
        )
        self.queue_len = gauge(
            "serve_request_router_queue_len",
            "Calls at the replica, as far as the router knows.",
            *("deployment", "replica_id", "actor_id", "application", "handle_source"),
        )
        self.hops = histogram(
            "eagleray_request_hop_ms",
            "Time of a sample of answered calls by hop (queue, route, execute, network), in milliseconds.",
            *("application", "deployment", "hop"),
            bounds=HOP_MS,
        )
        ends = ("deployment", "application", "reason")
        self.shed = counter("eagleray_shed_requests", "Calls refused before they were sent.", *ends)
        self.cancelled = counter("eagleray_cancelled_requests", "Calls given up by their caller.", *ends)
        self.lost = counter("eagleray_lost_requests", "Calls that were sent and got no answer.", *ends)

    def of(self, pool: Pool) -> PoolMetrics:
        """Opens the series of a deployment."""
        return PoolMetrics(self, pool)


class Entered:
    """Calls of one route: on the loop, and sent by other threads. Of the first, so many are measured as suffices."""

    __slots__ = ("_last", "_stride", "alone", "count", "measured_at")

    def __init__(self) -> None:
        self.count = self.alone = 0
        self.measured_at = 1
        """The number of the next call whose times are measured."""
        self._stride = 1
        self._last = 0.0

    def measure(self, now: float) -> None:
        """A call is measured: says which one is next, so that about 100 a second are."""
        passed_s, self._last = now - self._last, now
        if passed_s < _MEASURED_EVERY_S:
            self._stride = min(2 * self._stride, _MOST_UNMEASURED)
        else:
            self._stride = max(1, int(self._stride * _MEASURED_EVERY_S / passed_s))
        self.measured_at = self.count + self._stride

    def total(self) -> float:
        return float(self.count + self.alone)


class PoolMetrics:
    """The series of one deployment at one router."""

    __slots__ = (
        "_app",
        "_clock",
        "_codes",
        "_deployment",
        "_execute",
        "_lock",
        "_metrics",
        "_network",
        "_queue",
        "_retired",
        "_route",
        "args_resolution",
        "reserved",
        "routes",
        "waits",
    )

    def __init__(self, metrics: RouterMetrics, pool: Pool) -> None:
        app, _, deployment = pool.key.partition("#")
        source, actor_id = metrics.origin
        self._metrics = metrics
        self._clock = metrics.clock
        self._app, self._deployment = app, deployment
        self._lock = threading.Lock()
        self.routes: dict[str, Entered] = {}
        """What has come, by route; `open` one that is not there."""
        self._retired: list[tuple[float, tuple[str, ...]]] = []
        self._codes: set[str] = set()
        """Why calls were not answered."""
        self.reserved = 0
        """Slots that `choose_replica` holds here."""
        handle = deployment, app, source, actor_id
        task = app, deployment, actor_id, app, source
        metrics.queued.read(lambda: pool.queued, *handle)
        metrics.ongoing.read(lambda: pool.ongoing, *handle)
        metrics.reserved.read(lambda: self.reserved, *handle)
        metrics.tasks.read(lambda: pool.queued, *task)
        metrics.backing_off.read(lambda: 0.0, *task)
        self.args_resolution = metrics.args_resolution.distribution(*handle)
        self.waits = metrics.fulfillment.distribution_as(Waits, deployment, actor_id, app, source)
        """How long calls have waited for a replica."""
        hops = [metrics.hops.distribution(app, deployment, hop) for hop in _HOPS]
        self._queue, self._route, self._execute, self._network = hops

    # ---- calls -----------------------------------------------------------------------------------------------

    def entered_alone(self, route: str) -> None:
        """From any thread: a call was sent without the loop."""
        with self._lock:
            entered = self.routes.get(route)
            if entered is not None:
                entered.alone += 1
                return
        self.open(route).alone += 1

    def open(self, route: str) -> Entered:
        """The calls of a route."""
        with self._lock:
            if len(self.routes) >= _MOST_KNOWN:
                route = OVERFLOW
            entered = self.routes.get(route)
            if entered is None:
                source, actor_id = self._metrics.origin
                entered = self.routes[route] = Entered()
                ours = self._deployment, route, self._app, source
                self._metrics.handle_requests.read(entered.total, source, *ours[:3])
                self._metrics.router_requests.read(entered.total, *ours, actor_id)
            return entered

    def answered(self, call: RoutedCall, took_us: int) -> None:
        """The answer of a measured call has begun, after so many microseconds in user code."""
        sent_at, since, came_at = call.sent_at, call.since, call.came_at
        self._queue.observe((sent_at - since) * 1000.0 if since else 0.0)
        if came_at:
            self._route.observe(((since or sent_at) - came_at) * 1000.0)
        if took_us:
            execute_ms = took_us / 1000.0
            self._execute.observe(execute_ms)
            self._network.observe(max(0.0, (self._clock() - sent_at) * 1000.0 - execute_ms))

    def shed(self, code: str) -> None:
        """A call was refused before it was sent."""
        self._end(self._metrics.shed, code)

    def cancelled(self, code: str) -> None:
        """The caller of a call waits no longer."""
        self._end(self._metrics.cancelled, code)

    def lost(self, code: str) -> None:
        """A replica has failed to answer a call, or died with it."""
        self._end(self._metrics.lost, code)

    def _end(self, metric: Metric, code: str) -> None:
        self._codes.add(code)
        metric.value(self._deployment, self._app, code).inc()

    # ---- replicas --------------------------------------------------------------------------------------------

    def follow(self, target: Target) -> None:
        """The pool has a new target."""
        self._metrics.queue_len.read(lambda: target.in_flight + target.foreign, *self._labels_of(target))

    def unfollow(self, target: Target) -> None:
        """The target has left. Its series is 0 until the next one leaves: then that has been told."""
        now = self._clock()
        self._metrics.queue_len.read(lambda: 0.0, *self._labels_of(target))
        for _, labels in [one for one in self._retired if one[0] < now - _TOLD_S]:
            self._metrics.queue_len.forget(*labels)
        self._retired = [one for one in self._retired if one[0] >= now - _TOLD_S]
        self._retired.append((now, self._labels_of(target)))

    def _labels_of(self, target: Target) -> tuple[str, ...]:
        source, actor_id = self._metrics.origin
        return self._deployment, target.entry.replica_id, actor_id, self._app, source

    # ---- the end ---------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """The pool is dropped: its series are not told any more. Its targets have left before."""
        metrics, app, deployment = self._metrics, self._app, self._deployment
        source, actor_id = metrics.origin
        handle = deployment, app, source, actor_id
        for metric in (metrics.queued, metrics.ongoing, metrics.reserved, metrics.args_resolution):
            metric.forget(*handle)
        for metric in (metrics.tasks, metrics.backing_off):
            metric.forget(app, deployment, actor_id, app, source)
        metrics.fulfillment.forget(deployment, actor_id, app, source)
        for hop in _HOPS:
            metrics.hops.forget(app, deployment, hop)
        for metric in (metrics.shed, metrics.cancelled, metrics.lost):
            for code in self._codes:
                metric.forget(deployment, app, code)
        for _, labels in self._retired:
            metrics.queue_len.forget(*labels)
        with self._lock:
            for route in self.routes:
                metrics.handle_requests.forget(source, deployment, route, app)
                metrics.router_requests.forget(deployment, route, app, source, actor_id)
