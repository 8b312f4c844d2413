"""Brings what replicas, proxies and drivers have counted to the controller: one streaming call on each connection.

A source has ended when its process has, not when a connection has: who is dialled again is the same source and tells
all its totals again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from eagleray.admin.tokens import write_private
from eagleray.base.clock import Clock, wall_time_s
from eagleray.base.errors import EaglerayError
from eagleray.base.metrics import Registry, Snapshot
from eagleray.base.tasks import Tasks
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.controller import Controller
from eagleray.controller.history import History
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

ENDED_FILE = "metrics.ended"
"""In the runtime directory: totals of processes that have ended, for the next controller."""

_SAVE_S = 1.0
"""How old the file may be: many replicas end at once."""

_AWAIT_S = 3.0
"""How long a scrape waits after a restart."""

DRIVER = ("driver", "")
"""The group of drivers; that of proxies is made alike."""


class Gathering:
    """Belongs to the controller's loop; `close` ends it. Without the setting `metrics` nobody is asked."""

    def __init__(self, world: World, observer: Observer, config: NodeConfig) -> None:
        enabled = config.settings.get("metrics") == "1"
        self.telemetry = Telemetry(Registry(enabled=enabled))
        self._path = os.path.join(config.runtime_dir, ENDED_FILE)
        self._saving: asyncio.TimerHandle | None = None
        self._awaited: set[str] = set()
        self._complete = asyncio.Event()
        self._complete.set()
        self._waiting: asyncio.TimerHandle | None = None
        self._world = world
        self._config = config
        self._enabled = enabled
        self._port: MetricsPort | None = None
        observer.on_dialled = self._on_dialled
        observer.on_exit = self._on_exit
        if enabled:
            self._load()
        self._tasks = Tasks("metrics")

    # ---- over a restart of the controller ----------------------------------------------------------------------

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                self.telemetry.load(file.read())
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("Totals of ended processes are lost, %s cannot be read: %s", self._path, error)

    def _save_soon(self) -> None:
        if self._saving is None and self._enabled:
            self._saving = asyncio.get_running_loop().call_later(_SAVE_S, self._save)

    def _save(self) -> None:
        self._saving = None
        try:
            write_private(self._path, self.telemetry.dump())
        except OSError as error:
            logger.warning("Totals of ended processes are not kept over a restart: %s", error)

    def await_living(self, refs: Iterable[str]) -> None:
        """These processes outlived a former controller: sums without them would seem to have gone back."""
        self._awaited = {ref for ref in refs if ref in self._world.instances}
        if self._awaited and self._enabled:
            self._complete.clear()
            self._waiting = asyncio.get_running_loop().call_later(_AWAIT_S, self._complete.set)

    async def scrape(self) -> list[Snapshot]:
        """All metrics, once those who were awaited have told theirs, or have had the time to."""
        await self._complete.wait()
        return self.telemetry.snapshots()

    # ---- sources -----------------------------------------------------------------------------------------------

    def _on_exit(self, ref: str) -> None:
        self.telemetry.ended(ref)
        self._heard(ref)
        self._save_soon()

    def _heard(self, ref: str) -> None:
        if self._awaited:
            self._awaited.discard(ref)
            if not self._awaited:
                self._complete.set()

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
                shipment = decode(chunk, Shipment)
                self.telemetry.tell(ref, shipment.snapshots, is_whole=shipment.is_whole)
                self._heard(ref)
        except (EaglerayError, msgspec.DecodeError) as error:
            logger.debug("%s tells no metrics any more: %s", ref, error)

    def on_driver(self, shipment: Shipment) -> None:
        if self._enabled:
            self.telemetry.begin(shipment.subscriber, DRIVER)
            self.telemetry.tell(shipment.subscriber, shipment.snapshots, is_whole=shipment.is_whole)

    def on_driver_gone(self, subscriber: str) -> None:
        self.telemetry.ended(subscriber)
        self._save_soon()

    def instrument(
        self, clock: Clock, controller: Controller, publisher: Publisher, autoscaling: Autoscaling
    ) -> Instruments | None:
        """Has the controller counted too; None when nobody is."""
        if not self._enabled:
            return None
        return Instruments(self.telemetry, clock, controller, publisher, autoscaling)

    def remember(self, clock: Clock, controller: Controller) -> History | None:
        """Has what is told kept as points; None when nobody counts."""
        if not self._enabled:
            return None
        after = asyncio.get_running_loop().call_later
        history = History(self.telemetry, self._world, clock, wall_time_s, after)
        controller.on_event.append(history.on_event)
        return history

    def open_port(self) -> None:
        """Serves /metrics on a port of its own, if the instance's settings say so."""
        config = self._config
        port = int(config.settings.get("metrics_export_port", "-1"))
        if port < 0 or not self._enabled:
            return
        # Imported only where somebody wants it: every start would pay for an HTTP server.
        from eagleray.admin.exposition import Exposition
        from eagleray.admin.metrics_port import MetricsPort

        hosts = config.settings.get("admin_hosts", "").replace(" ", "").split(",")
        self._port = MetricsPort(Exposition(self.scrape), config.runtime_dir, hosts)
        self._port.open(port)

    async def close(self) -> None:
        for timer in (self._saving, self._waiting):
            if timer is not None:
                timer.cancel()
        if self._port is not None:
            await self._port.close()
        await self._tasks.close()
