"""Brings what replicas, proxies and drivers have counted to the controller: one streaming call on each connection.

A source has ended when its process has, not when a connection has: who is dialled again is the same source and tells
all its totals again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from eagleray.base.clock import Clock
from eagleray.base.errors import EaglerayError
from eagleray.base.metrics import Registry
from eagleray.base.tasks import Tasks
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.controller import Controller
from eagleray.controller.instruments import Instruments
from eagleray.controller.observer import Observer
from eagleray.controller.publisher import Publisher
from eagleray.controller.telemetry import Telemetry
from eagleray.reconcile.world import World
from eagleray.rpc.client import Client
from eagleray.wire.control import Empty, NodeConfig, decode
from eagleray.wire.metrics import Shipment

if TYPE_CHECKING:
    from eagleray.admin.metrics_port import MetricsPort

logger = logging.getLogger("eagleray.controller")

DRIVER = ("driver", "")
"""The group of drivers; that of proxies is made alike."""


class Gathering:
    """Belongs to the controller's loop; `close` ends it. Not `enabled`, nobody is asked."""

    def __init__(self, world: World, observer: Observer, *, enabled: bool) -> None:
        self.telemetry = Telemetry(Registry(enabled=enabled))
        self._world = world
        self._enabled = enabled
        self._port: MetricsPort | None = None
        observer.on_dialled = self._on_dialled
        observer.on_exit = self.telemetry.ended
        self._tasks = Tasks("metrics")

    def _on_dialled(self, ref: str, client: Client) -> None:
        """There is a connection with an instance; other children have no metrics."""
        instance = self._world.instances.get(ref)
        if instance is None or not self._enabled:
            return
        row = instance.row
        app, _, deployment = row.owner.partition("#")
        self.telemetry.begin(ref, (app, deployment) if row.kind == "replica" else (row.kind, ""))
        self._tasks.start(self._follow(ref, client), name=ref)

    async def _follow(self, ref: str, client: Client) -> None:
        try:
            async for chunk in client.subscribe("metrics", Empty()):
                self.telemetry.tell(ref, decode(chunk, Shipment).snapshots)
        except (EaglerayError, msgspec.DecodeError) as error:
            logger.debug("%s tells no metrics any more: %s", ref, error)

    def on_driver(self, shipment: Shipment) -> None:
        if self._enabled:
            self.telemetry.begin(shipment.subscriber, DRIVER)
            self.telemetry.tell(shipment.subscriber, shipment.snapshots)

    def on_driver_gone(self, subscriber: str) -> None:
        self.telemetry.ended(subscriber)

    def instrument(
        self, clock: Clock, controller: Controller, publisher: Publisher, autoscaling: Autoscaling
    ) -> Instruments | None:
        """Has the controller counted too; None when nobody is."""
        if not self._enabled:
            return None
        return Instruments(self.telemetry, clock, controller, publisher, autoscaling)

    def open_port(self, config: NodeConfig) -> None:
        """Serves /metrics on a port of its own, if the instance's settings say so."""
        port = int(config.settings.get("metrics_export_port", "-1"))
        if port < 0 or not self._enabled:
            return
        # Imported only where somebody wants it: every start would pay for an HTTP server.
        from eagleray.admin.exposition import Exposition
        from eagleray.admin.metrics_port import MetricsPort

        hosts = config.settings.get("admin_hosts", "").replace(" ", "").split(",")
        self._port = MetricsPort(Exposition(self.telemetry.snapshots), config.runtime_dir, hosts)
        self._port.open(port)

    async def close(self) -> None:
        if self._port is not None:
            await self._port.close()
        await self._tasks.close()
