"""How long things take that the controller has done: starts, reconfigurations, ends and checks of instances.

Listens to commands and events as they pass; it changes nothing and keeps a time for each thing that is under way.
"""

from __future__ import annotations

from eagleray.base.clock import Clock
from eagleray.base.metrics import STARTUP_MS, Metric, Registry
from eagleray.controller.places import NODE_LABELS, node_labels
from eagleray.reconcile import commands as c
from eagleray.reconcile.events import Born, Event, Happened, HealthChecked
from eagleray.reconcile.instance import InstanceRow, Trigger
from eagleray.reconcile.world import World

_LABELS = ("deployment", "application")

_START, _INIT, _RECONFIGURE, _END, _CHECK = "start", "init", "reconfigure", "end", "check"


class Timings:
    """The series are in `registry`. `on_event` is called before an event takes effect."""

    def __init__(self, registry: Registry, world: World, clock: Clock) -> None:
        self._world = world
        self._now = clock.now
        self._began: dict[tuple[str, str], float] = {}

        def histogram(name: str, help: str) -> Metric:
            return registry.histogram(name, f"{help}, in milliseconds.", *_LABELS, bounds=STARTUP_MS)

        self._histograms = {
            _START: histogram(
                "serve_replica_startup_latency_ms", "From the order of a replica to its readiness"
            ),
            _INIT: histogram(
                "serve_replica_initialization_latency_ms", "From a replica's process to its readiness"
            ),
            _RECONFIGURE: histogram("serve_replica_reconfigure_latency_ms", "Changes of running replicas"),
            _END: histogram(
                "serve_replica_shutdown_duration_ms", "From the order to end to the end of the process"
            ),
            _CHECK: registry.histogram(
                "serve_health_check_latency_ms", "Health checks, in milliseconds.", *_LABELS
            ),
        }
        self._proxy_end = registry.histogram(
            "serve_proxy_shutdown_duration_ms",
            "From the order to end to the end of a proxy, in milliseconds.",
            *NODE_LABELS,
            bounds=STARTUP_MS,
        )
        self._failures = registry.counter(
            "serve_health_check_failures_total",
            "Health checks that failed or took too long.",
            "deployment",
            "replica",
            "application",
        )

    def on_command(self, command: c.Command) -> None:
        """A command is about to be performed."""
        match command:
            case c.StartInstance(ref):
                self._begin(ref, _START)
            case c.ReconfigureInstance(ref):
                self._begin(ref, _RECONFIGURE)
            case c.DrainInstance(ref) | c.StopInstance(ref):
                if (ref, _END) not in self._began:
                    self._begin(ref, _END)
            case c.CheckHealth(ref):
                self._begin(ref, _CHECK)

    def on_event(self, event: Event) -> None:
        match event:
            case Born(ref):
                self._begin(ref, _INIT)
            case Happened(ref, Trigger.READY):
                self._end(ref, _START)
                self._end(ref, _INIT)
            case Happened(ref, Trigger.RECONFIGURED | Trigger.REFUSED):
                self._end(ref, _RECONFIGURE)
            case Happened(ref, Trigger.EXITED | Trigger.REJECTED):
                self._end(ref, _END)
                for what in (_START, _INIT, _RECONFIGURE, _CHECK):
                    self._began.pop((ref, what), None)
            case HealthChecked(ref, error):
                self._end(ref, _CHECK)
                if error and (row := self._replica(ref)) is not None:
                    app, _, deployment = row.owner.partition("#")
                    self._failures.value(deployment, row.unique_id, app).inc()

    def _begin(self, ref: str, what: str) -> None:
        self._began[ref, what] = self._now()

    def _end(self, ref: str, what: str) -> None:
        began = self._began.pop((ref, what), None)
        instance = self._world.instances.get(ref)
        if began is None or instance is None:
            return
        took_ms = (self._now() - began) * 1000.0
        row = instance.row
        if row.kind == "replica":
            app, _, deployment = row.owner.partition("#")
            self._histograms[what].distribution(deployment, app).observe(took_ms)
        elif what == _END:
            self._proxy_end.distribution(*node_labels()).observe(took_ms)

    def _replica(self, ref: str) -> InstanceRow | None:
        instance = self._world.instances.get(ref)
        return instance.row if instance is not None and instance.row.kind == "replica" else None
