"""Connects the controller's parts to its metrics: the parts know nothing of them, and are as they were without.

What can be read when somebody asks is not counted; what has to be counted costs a pass of the loop some additions.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from eagleray.base.clock import Clock
from eagleray.base.loop_lag import LoopLag
from eagleray.base.metrics import Registry
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.controller import Controller
from eagleray.controller.health import PassTimes
from eagleray.controller.process_stats import ProcessStats
from eagleray.controller.publisher import Publisher
from eagleray.controller.telemetry import Telemetry
from eagleray.controller.timings import Timings
from eagleray.controller.world_series import WorldSeries
from eagleray.reconcile.commands import Command

_LAG_PERIOD_S = 1.0

_TABLE = "routing_table"
"""The only thing that is published: value of Ray's tag `namespace`."""


class Instruments:
    """Made once all parts are connected; `close` ends its only timer."""

    def __init__(
        self,
        telemetry: Telemetry,
        clock: Clock,
        controller: Controller,
        publisher: Publisher,
        autoscaling: Autoscaling,
    ) -> None:
        registry = telemetry.registry
        world = controller.world
        timings = Timings(registry, world, clock)
        controller.on_event.append(timings.on_event)
        controller.perform = _listening(controller.perform, timings.on_command)
        _watch_loop(registry, controller.passes)
        _watch_tables(registry, publisher)
        telemetry.before_read = ProcessStats(world, telemetry, clock).refresh
        telemetry.extras.append(WorldSeries(world, autoscaling).read)
        self._lag = LoopLag(registry, "controller", "main", "controller")
        self._loop = asyncio.get_running_loop()
        self._arm()

    def _arm(self) -> None:
        due = self._loop.time() + _LAG_PERIOD_S
        self._timer = self._loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        self._lag.note(max(self._loop.time() - due, 0.0) * 1000.0)
        self._arm()

    def close(self) -> None:
        self._timer.cancel()


def _listening(
    perform: Callable[[Command], None], listen: Callable[[Command], None]
) -> Callable[[Command], None]:
    def both(command: Command) -> None:
        listen(command)
        perform(command)

    return both


def _watch_loop(registry: Registry, passes: PassTimes) -> None:
    registry.gauge(
        "serve_controller_control_loop_duration_s", "How long the last pass of the control loop took."
    ).read(lambda: passes.last_s)
    registry.gauge(
        "serve_controller_sleep_duration_s",
        "How long the control loop slept before it: until something happened.",
    ).read(lambda: passes.slept_s)
    registry.gauge(
        "serve_controller_num_control_loops", "Passes of this controller's loop.", "actor_id"
    ).read(lambda: passes.count, f"controller-{os.getpid()}")


def _watch_tables(registry: Registry, publisher: Publisher) -> None:
    latency = registry.histogram(
        "serve_long_poll_latency_ms",
        "From the publication of a routing table to its acknowledgement by who routes, in milliseconds.",
        "namespace",
    ).distribution(_TABLE)
    sent = registry.counter(
        "serve_long_poll_host_transmission_counter", "Routing tables sent.", "namespace_or_state"
    ).value(_TABLE)
    registry.gauge("serve_long_poll_pending_clients", "Who follows the routing table.", "namespace").read(
        lambda: publisher.followers, _TABLE
    )
    publisher.on_push = sent.inc
    publisher.on_acked = lambda took_s: latency.observe(took_s * 1000.0)
