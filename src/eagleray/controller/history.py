"""What happened when: points of the last hour and day of deployments and applications, kept from what processes tell.

Totals become differences where they arrive, so that an idle instance costs nothing, and a busy one a few additions for
each message. Processes tell at any moment of a second what they have counted since about a second ago: it is shared
out between this second and the one before. It ends with the controller; the next one begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from eagleray.base.clock import Clock
from eagleray.base.metrics import GAUGE, Sample, Snapshot
from eagleray.controller.points import ONGOING, QUEUED, REPLICAS, Points
from eagleray.controller.process_stats import SERIES as PROCESS_SERIES
from eagleray.controller.telemetry import Telemetry
from eagleray.controller.totals import Table, Tables
from eagleray.reconcile import events as e
from eagleray.reconcile.target import PROXY_KEYS
from eagleray.reconcile.world import World

MOST = 500
"""Deployments and applications together; further ones have no history. A full one takes 0.2 MB."""

MOST_GONE = 10
"""Of those, deployments and applications that are no more."""

_WHOLE = 8
"""Fewer requests than these are not shared out: they are whole ones, in one of both seconds."""

_ODD = 1e12
"""More than any of our numbers grows by at once."""

_LONGEST_S = 2.5
"""Between two messages of a process that counts all the time; after a longer silence news is about a second old."""

Key = tuple[str, str]
"""Application and deployment; the deployment of an application as a whole is ""."""

Handler = Callable[[Snapshot, Table | None, float, float], None]
"""Gets what is told, what was told before, when, and which share of it this second has."""

After = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class History:
    """Listens to `telemetry` and reads `world`. `after` is `call_later` of the loop that it belongs to."""

    def __init__(
        self, telemetry: Telemetry, world: World, clock: Clock, wall_time_s: Callable[[], float], after: After
    ) -> None:
        self._world = world
        self._clock = clock
        self.wall_time_s = wall_time_s
        self._after = after
        self._zero = wall_time_s() - clock.now()
        self.series: dict[Key, Points] = {}
        self._open: dict[Key, Points] = {}
        """Those with a second that is not written yet."""
        self._recount: set[str] = set()
        self._told: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._handlers: dict[str, Handler] = {
            "serve_deployment_processing_latency_ms": self._latency,
            "serve_http_request_latency_ms": self._latency,
            "serve_grpc_request_latency_ms": self._latency,
            "serve_deployment_error_counter": self._errors,
            "eagleray_shed_requests": self._errors,
            "eagleray_lost_requests": self._errors,
            "serve_num_http_error_requests": self._errors,
            "serve_num_grpc_error_requests": self._errors,
        }
        self._of_gauges: dict[str, Handler] = {
            "serve_replica_processing_queries": self._ongoing,
            "serve_deployment_queued_queries": self._queued,
        }
        self._handlers |= self._of_gauges
        telemetry.on_tell = self._on_tell
        telemetry.on_end = self._on_end

    def close(self) -> None:
        """Listens no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def now(self) -> float:
        """Seconds on the axis: wall time as it was at first, and monotonic from then on."""
        return self._clock.now() + self._zero

    # ---- what happens ------------------------------------------------------------------------------------------

    def on_event(self, event: e.Event) -> None:
        """Before it takes effect: replicas are counted soon after."""
        if isinstance(event, e.Happened | e.HealthChecked):
            if isinstance(event, e.HealthChecked) and not event.error:
                return
            instance = self._world.instances.get(event.ref)
            if instance is None or instance.row.kind != "replica":
                return
            self._recount.add(instance.row.owner)
        elif isinstance(event, e.Adopted):
            self._recount.update(one.row.owner for one in self._world.instances.values())
        else:
            return
        self._arm()

    def _on_tell(self, source: str, known: Tables, snapshots: Sequence[Snapshot]) -> None:
        now = self.now()
        before = self._told.get(source, 0.0)
        self._told[source] = now
        if all(name.startswith(PROCESS_SERIES) for name in known) and not self._is_new(source):
            handlers = self._of_gauges
        else:
            handlers = self._handlers
        spent_s = now - before if now - before < _LONGEST_S else 1.0
        share = min(1.0, (now - int(now)) / max(spent_s, 0.001))
        for snapshot in snapshots:
            handler = handlers.get(snapshot.name)
            if handler is not None:
                handler(snapshot, known.get(snapshot.name), now, share)

    def _is_new(self, source: str) -> bool:
        """What a process of this controller's own tells first is new; what others do was counted some time before."""
        instance = self._world.instances.get(source)
        return instance is not None and not instance.is_adopted

    def _on_end(self, known: Tables) -> None:
        """Gauges of a process end with it."""
        now = self.now()
        for name, handler in self._of_gauges.items():
            table = known.get(name)
            if table is not None:
                ended = Snapshot(name, GAUGE, "", table.label_names, gone=list(table.samples))
                handler(ended, table, now, 1.0)

    def _latency(self, snapshot: Snapshot, before: Table | None, now: float, share: float) -> None:
        for sample in snapshot.samples:
            points = self._of(snapshot.label_names, sample.labels)
            if points is None or sample.counts is None:
                continue
            known = before.samples.get(sample.labels) if before is not None else None
            counts: Sequence[float] = sample.counts
            if known is not None and known.counts is not None:
                counts = [a - b for a, b in zip(counts, known.counts, strict=True)]
            total = sum(counts)
            for slot, part, number in _shared(int(now), total, share):
                points.count(slot, requests=number)
                points.observe(slot, snapshot.bounds, [part * count for count in counts])

    def _errors(self, snapshot: Snapshot, before: Table | None, now: float, share: float) -> None:
        for points, grown in self._grown(snapshot, before):
            if grown < 0.0:
                continue
            for slot, _, number in _shared(int(now), grown, share):
                points.count(slot, errors=number)

    def _ongoing(self, snapshot: Snapshot, before: Table | None, now: float, share: float) -> None:
        for points, grown in self._grown(snapshot, before):
            points.set_gauge(int(now), ONGOING, points.gauges[ONGOING] + grown)

    def _queued(self, snapshot: Snapshot, before: Table | None, now: float, share: float) -> None:
        for points, grown in self._grown(snapshot, before):
            points.set_gauge(int(now), QUEUED, points.gauges[QUEUED] + grown)

    def _grown(self, snapshot: Snapshot, before: Table | None) -> Iterator[tuple[Points, float]]:
        """What has changed, and by how much. A gauge that its process has forgotten is 0."""
        for sample in (*snapshot.samples, *(Sample(labels, 0.0) for labels in snapshot.gone)):
            known = before.samples.get(sample.labels) if before is not None else None
            grown = sample.value - (known.value if known is not None else 0.0)
            # NaN is not below anything: user code may count what it likes under one of our names.
            if (
                grown
                and abs(grown) < _ODD
                and (points := self._of(snapshot.label_names, sample.labels)) is not None
            ):
                yield points, grown

    def _of(self, names: tuple[str, ...], labels: tuple[str, ...]) -> Points | None:
        """The points that a series belongs to, which are about to change; None for what is not known."""
        if "application" not in names:  # somebody else's series of that name
            return None
        app = labels[names.index("application")]
        deployment = labels[names.index("deployment")] if "deployment" in names else ""
        return self._opened((app, deployment))

    def _opened(self, key: Key) -> Points | None:
        points = self.series.get(key)
        if points is None:
            points = self._begin(key)
        if points is not None:
            self._open[key] = points
            self._arm()
        return points

    def _begin(self, key: Key) -> Points | None:
        if not self._exists(key):
            return None
        gone = [known for known in self.series if not self._exists(known)]
        for known in gone[: max(0, len(gone) - MOST_GONE)]:
            del self.series[known]
        if len(self.series) >= MOST:
            return None
        points = self.series[key] = Points(int(self.now()), has_gauges=bool(key[1]))
        return points

    def _exists(self, key: Key) -> bool:
        app, deployment = key
        if deployment:
            return f"{app}#{deployment}" in self._world.deployments
        return app in self._world.applications

    # ---- as time goes by ---------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is None:
            now = self.now()
            self._timer = self._after(int(now) + 1.0 - now, self._tick)

    def _tick(self) -> None:
        """A second is over. While nothing happens there is no next one."""
        self._timer = None
        slot = int(self.now())
        for owner in self._recount:
            self._count_replicas(owner, slot)
        self._recount.clear()
        for key, points in list(self._open.items()):
            points.advance(slot)
            if points.is_settled:
                del self._open[key]
        if self._open:
            self._arm()
        if len(self._told) > MOST:
            self._told = {source: at for source, at in self._told.items() if at > slot - _LONGEST_S}

    def _count_replicas(self, owner: str, slot: int) -> None:
        if owner in PROXY_KEYS:
            return
        app, _, deployment = owner.partition("#")
        number = sum(one.is_listed for one in self._world.instances_of(owner))
        points = self.series.get((app, deployment)) or self._begin((app, deployment))
        if points is not None and points.gauges[REPLICAS] != number:
            self._opened((app, deployment))
            points.set_gauge(slot, REPLICAS, number)


def _shared(slot: int, total: float, share: float) -> list[tuple[int, float, float]]:
    """(second, part, number): `total` of a message that came in `slot`, which has `share` of the time it is about."""
    if not total:
        return []
    if total < _WHOLE or share >= 1.0:
        return [(slot if share >= 0.5 else slot - 1, 1.0, total)]
    number = round(total * share)
    return [(slot - 1, 1.0 - share, total - number), (slot, share, number)]
