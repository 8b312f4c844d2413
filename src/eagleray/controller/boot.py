"""Puts a controller together and runs it: load the rows, adopt what lives, then reconcile like on any other day.

There is no recovery mode: after a crash the ordinary loop meets a world that it has loaded instead of built.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import msgspec

import eagleray
from eagleray.admin.door import Door
from eagleray.admin.records import Reading
from eagleray.base.clock import Clock, SystemClock, wall_time_s
from eagleray.base.errors import EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.base.metrics import Snapshot
from eagleray.base.tasks import Tasks
from eagleray.controller import intake
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.builder import Builder
from eagleray.controller.controller import VERSION_ROW, Controller
from eagleray.controller.declared import Declarations
from eagleray.controller.departure import Departure
from eagleray.controller.details import Details
from eagleray.controller.effects import Effects
from eagleray.controller.environments import Environments
from eagleray.controller.gathering import Gathering
from eagleray.controller.launch import Launcher
from eagleray.controller.logging import follow_declared
from eagleray.controller.memory import Memory
from eagleray.controller.observer import Connect, Observer
from eagleray.controller.policies import PolicyRunner
from eagleray.controller.publisher import RESERVED_VERSIONS, Publisher
from eagleray.controller.service import Service
from eagleray.controller.storage import Storage
from eagleray.engine.base import Capacity, Engine
from eagleray.reconcile import events as e
from eagleray.reconcile.applications import APPLICATIONS, META
from eagleray.reconcile.instance import Trigger
from eagleray.reconcile.placement import UNIT, Supply
from eagleray.reconcile.target import GRPC_PROXY_KEY, proxy_target
from eagleray.reconcile.world import DEPLOYMENTS, INSTANCES, World
from eagleray.rpc.client import Client
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Server
from eagleray.store.base import StateStore
from eagleray.wire.control import Built, NodeConfig, Started

logger = logging.getLogger("eagleray.controller")

MakeWorld = Callable[[str, str], World]
"""Makes an empty world of a seed for its ids and the life of the instance."""


async def run_controller(
    config: NodeConfig,
    engine: Engine,
    store: StateStore,
    listener: socket.socket,
    clock: Clock | None = None,
    connect: Connect = Client.connect,
    make_world: MakeWorld = World,
) -> bool:
    """Runs until the instance has been shut down (True), or the engine is gone (False). Closes `store`, `listener`.

    A simulation gives its own `clock`, its own network by `connect`, and a world that is watched by `make_world`.
    """
    clock = clock or SystemClock()
    storage = Storage(store)
    tasks = Tasks("controller")
    try:
        life = f"{config.runtime_dir} {os.getppid()}"
        world, first_version = await _load(storage, make_world(new_unique_id(), life))
        assembly = _Assembly(config, engine, storage, world, first_version, clock, connect)
        try:
            assembly.adopt(await engine.children())
            assembly.announce_wishes()
            await assembly.serve(listener, tasks)
        finally:
            await assembly.close()
    finally:
        await tasks.close()
        await storage.close()
        listener.close()
    return world.has_ended


async def _load(storage: Storage, world: World) -> tuple[World, int]:
    """Fills the empty `world`, and gives the first version of the routing table that nobody can have published yet."""
    rows = await storage.load((APPLICATIONS, DEPLOYMENTS, INSTANCES, META))
    world.load(rows)
    stored = {key: value for table, key, value in rows if table == META}
    first_version: int = msgspec.json.decode(stored[VERSION_ROW]) if VERSION_ROW in stored else 0
    await storage.commit({(META, VERSION_ROW): msgspec.json.encode(first_version + RESERVED_VERSIONS)})
    return world, first_version


class _Assembly:
    """The parts of one controller and how they are wired."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        storage: Storage,
        world: World,
        first_version: int,
        clock: Clock,
        connect: Connect,
    ) -> None:
        self._config = config
        self._engine = engine
        self._world = world
        self._launcher = launcher = Launcher(config, storage)
        publisher = Publisher(self._unlisted, first_version, is_restart=first_version > 0)
        self._publisher = publisher
        self._controller = controller = Controller(
            world, storage, publisher, clock, config.runtime_dir, first_version + RESERVED_VERSIONS
        )
        self._observer = Observer(engine, controller.post, self._log_of, connect)
        self._gathering = Gathering(world, self._observer, config)
        self._environments = Environments(engine, self._observer, config, world.preparing)
        self._builder = Builder(engine, self._observer, launcher, self._environments, self._on_built)
        self._effects = Effects(
            world,
            engine,
            self._observer,
            launcher,
            self._environments,
            self._builder,
            controller.post,
            controller.end,
        )
        controller.perform = self._effects.perform
        self._departure = Departure(config.drain_delay_s, controller.post)
        engine.on_leaving = self._departure.begin
        self._autoscaling = Autoscaling(world, controller.post, clock)
        self._policies = PolicyRunner(
            world, engine, self._observer, launcher, self._environments, self._autoscaling
        )
        controller.on_pass = self._on_pass
        self._instruments = self._gathering.instrument(clock, controller, publisher, self._autoscaling)
        docs_path, scaling = self._effects.docs_paths.get, self._autoscaling.detail
        details = Details(world, config, launcher.log_path, docs_path, scaling, controller.passes)
        self._declarations = Declarations(controller, config, details)
        self._memory = Memory(self._gathering, clock, controller, self._declarations)
        self._door = _make_door(config, self._declarations, self._gathering.scrape, self._memory.reading)
        self._service = Service(
            controller,
            publisher,
            self._autoscaling,
            config,
            self._declarations,
            self._door,
            self._gathering,
            self._memory.reading,
        )
        self._methods = ControlMethods(self._service.methods, name="controller")
        self._server = Server(self._methods.dispatch)
        self._orphans: list[str] = []

    def adopt(self, living: list[Started]) -> None:
        """What lives and is known goes on; builders of a former controller, and whatever else is not known, end.

        Takes effect in the first pass, before anything is reconciled: nothing that lives is started again.
        """
        self._controller.post(e.SupplyKnown(_supply(self._engine.capacity())))
        alive = {child.ref: child.pid for child in living}
        addresses = {child.ref: child.http_address for child in living if child.http_address is not None}
        self._controller.post(e.Adopted(alive, addresses, wall_time_s()))
        self._gathering.await_living(alive)
        self._orphans = [ref for ref in alive if ref not in self._world.instances]

    def announce_wishes(self) -> None:
        config = self._config
        options = {**config.http_options, "host": config.http_host, "port": config.http_port}
        follow_declared(self._world, config)
        logging = self._world.declared.get("logging_config")
        has_proxy = config.http_host is not None and not self._world.is_closing
        self._controller.post(e.ProxyWanted(proxy_target(options, logging=logging) if has_proxy else None))
        serves_grpc = has_proxy and config.grpc_options.get("grpc_servicer_functions")
        grpc = proxy_target(config.grpc_options, GRPC_PROXY_KEY, logging) if serves_grpc else None
        self._controller.post(e.ProxyWanted(grpc, GRPC_PROXY_KEY))
        if self._world.is_closing:
            self._controller.post(e.ShutdownRequested())

    async def serve(self, listener: socket.socket, tasks: Tasks) -> None:
        exits = tasks.start(self._observer.watch_exits(), name="watch exits")
        exits.add_done_callback(lambda _: self._controller.end())
        await self._server.start(listener)
        self._door.open(int(self._config.settings.get("admin_port", "-1")))
        self._gathering.open_port()
        for ref in self._orphans:
            await self._observer.stop(ref, signal.SIGKILL)
        await self._controller.run()
        if self._world.has_ended:
            await self._service.say_goodbye()
            await self._door.close()
            await self._server.close()
            await self._engine.shutdown()
        else:
            logger.error("the engine is gone, so this controller ends")

    async def close(self) -> None:
        await self._departure.close()
        await self._door.close()
        await self._methods.close()
        if self._instruments is not None:
            self._instruments.close()
        self._memory.close()
        await self._gathering.close()
        self._autoscaling.close()
        await self._policies.close()
        await self._builder.close()
        await self._effects.close()
        await self._environments.close()
        self._observer.close()
        self._publisher.close()
        await self._server.close()

    def _on_pass(self) -> None:
        self._memory.settle()
        self._autoscaling.refresh()
        self._policies.refresh()

    def _unlisted(self, ref: str) -> None:
        self._controller.post(e.Happened(ref, Trigger.UNLISTED))

    def _log_of(self, ref: str) -> str:
        instance = self._world.instances.get(ref)
        return "" if instance is None else self._launcher.log_path(instance.row)

    async def _on_built(self, app: str, generation: int, built: Built) -> None:
        if built.error:
            self._controller.post(e.BuildFailed(app, generation, built.error))
            return
        try:
            await self._controller.admit(intake.admit_built(app, generation, built))
        except EaglerayError as error:
            self._controller.post(e.BuildFailed(app, generation, str(error)))


def _make_door(
    config: NodeConfig,
    declarations: Declarations,
    scrape: Callable[[], Awaitable[list[Snapshot]]],
    reading: Reading,
) -> Door:
    return Door(
        declarations,
        config.runtime_dir,
        config.logs_dir,
        version=eagleray.__version__,
        scrape=scrape,
        reading=reading,
        hosts=config.settings.get("admin_hosts", "").replace(" ", "").split(","),
    )


def _supply(capacity: Capacity) -> Supply:
    return Supply(
        num_cpus=capacity.num_cpus,
        memory=capacity.memory_bytes,
        gpu_ids=tuple(capacity.gpu_ids),
        custom={name: round(amount * UNIT) for name, amount in capacity.resources.items()},
    )
