"""Performs commands, each in a task of its own, and turns what comes of them into events.

Every command ends in an event, by an answer, a death notice or a deadline; none of them decides anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.controller.builder import Builder
from eagleray.controller.environments import Environments
from eagleray.controller.launch import Launcher, reconfigure_message
from eagleray.controller.observer import Observer
from eagleray.engine.base import Engine, EngineError
from eagleray.engine.linux import resident_bytes
from eagleray.reconcile import commands as c
from eagleray.reconcile.events import Born, Event, Expired, Happened, HealthChecked
from eagleray.reconcile.instance import LISTED, InstanceState, Trigger
from eagleray.reconcile.world import World
from eagleray.wire.control import Drain, Empty, Health, Ready
from eagleray.wire.environment import Prepared

logger = logging.getLogger("eagleray.controller")

_EXIT_NOTICE_S = 1.0
"""A child that dies while it starts closes its connection first; its exit, which says why, follows within this."""


class Effects:
    """Reads the world, never changes it. `post` takes events, `end` is called when everything is gone."""

    def __init__(
        self,
        world: World,
        engine: Engine,
        observer: Observer,
        launcher: Launcher,
        environments: Environments,
        builder: Builder,
        post: Callable[[Event], None],
        end: Callable[[], None],
    ) -> None:
        self._world = world
        self._engine = engine
        self._observer = observer
        self._launcher = launcher
        self._environments = environments
        self._unborn: dict[str, asyncio.Task[Prepared]] = {}
        """Instances that wait for their environment."""
        self._builder = builder
        self._post = post
        self._end = end
        self._shutting: asyncio.Task[None] | None = None
        """Closes the listeners of an instance that ends."""
        self.docs_paths: dict[str, str] = {}
        """Deployment key -> where its ASGI app has its documentation, as its last replica has said."""
        self._tasks = Tasks("effects")

    def perform(self, command: c.Command) -> None:
        """Begins a command; returns at once."""
        name = f"{type(command).__name__} {getattr(command, 'ref', '')}"
        match command:
            case c.StartInstance(ref):
                self._run(self._start(ref), name)
            case c.GreetInstance(ref):
                self._run(self._greet_adopted(ref), name)
            case c.ReconfigureInstance():
                self._run(self._reconfigure(command), name)
            case c.CheckHealth(ref, timeout_s):
                self._run(self._check(ref, timeout_s), name)
            case c.DrainInstance(ref, timeout_s):
                self._run(self._drain(ref, timeout_s), name)
            case c.StopInstance(ref, signum):
                self._run(self._stop(ref, signum), name)
            case c.BuildApplication(app, generation, request):
                self._builder.build(app, generation, request)
            case c.StopBuild(app):
                self._builder.stop(app)
            case c.CloseListeners():
                self._shutting = self._tasks.start(self._close_listeners(), name=name)
            case c.EndInstance():
                self._end()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.start(work, name=name)

    async def _start(self, ref: str) -> None:
        instance = self._world.instances.get(ref)
        if instance is None:
            return
        row = instance.row
        deployment = self._world.deployments.get(row.owner)
        target = deployment.target_of(row.version) if deployment is not None else None
        if target is None or instance.state is not InstanceState.STARTING:
            self._post(Happened(ref, Trigger.REJECTED, "nobody wants it any more"))
            return
        with self._observer.exit_of(ref) as exited:
            try:
                prepared = await self._prepare(ref, target.environment)
                started = await self._engine.start(
                    await self._launcher.start_child(row, target, self._world.supply, prepared)
                )
            except (EaglerayError, KeyError) as error:
                reason = (
                    error.reason if isinstance(error, EngineError) else f"its code cannot be read: {error}"
                )
                logger.error("%s could not be started: %s", ref, reason)
                self._post(Happened(ref, Trigger.REJECTED, reason))
                return
            except Exception as error:  # an instance that nobody starts would be waited for
                logger.exception("%s could not be started", ref)
                self._post(Happened(ref, Trigger.REJECTED, f"{type(error).__name__}: {error}"))
                return
            self._post(Born(ref, started.pid, started.http_address, wall_time_s()))
            error_text = await self._greet(ref)
            if error_text:
                await asyncio.wait({exited}, timeout=_EXIT_NOTICE_S)
                if not exited.done():
                    self._post(Happened(ref, Trigger.LOST, error_text))

    async def _prepare(self, ref: str, recipe: str) -> Prepared:
        """Raises EngineError also when nobody wants the instance any more."""
        if not recipe:
            return Prepared()
        waiting = self._tasks.start(self._environments.prepare(recipe), name=f"environment of {ref}")
        self._unborn[ref] = waiting
        try:
            await asyncio.wait({waiting})
        finally:
            del self._unborn[ref]
            waiting.cancel()
        instance = self._world.instances.get(ref)
        if waiting.cancelled() or instance is None or instance.state is not InstanceState.STARTING:
            raise EngineError("internal", "nobody wants it any more")
        prepared = waiting.result()
        if prepared.error:
            raise EngineError("internal", prepared.error)
        return prepared

    async def _greet(self, ref: str) -> str:
        """Connects and waits for `ready`; returns why that could not be, when the instance itself did not say."""
        try:
            client = await self._observer.dial(ref, self._launcher.address(ref))
            ready = await client.request("ready", Empty(), Ready, timeout_s=None)
        except (OSError, EaglerayError) as error:
            return f"its control connection failed: {error}"
        if ready.error:
            logger.error("%s failed to start:\n%s", ref, ready.error)
            self._post(Happened(ref, Trigger.FAILED, ready.error))
        else:
            self._note_docs(ref, ready.docs_path)
            self._post(Happened(ref, Trigger.READY))
            self._observer.announce(ref)
        return ""

    def _note_docs(self, ref: str, path: str | None) -> None:
        instance = self._world.instances.get(ref)
        if instance is not None and path is not None:
            self.docs_paths[instance.row.owner] = path

    async def _greet_adopted(self, ref: str) -> None:
        try:
            await self._observer.dial(ref, self._launcher.address(ref))
        except (OSError, EaglerayError) as error:
            self._post(Happened(ref, Trigger.LOST, f"it cannot be reached: {error}"))
            return
        instance = self._world.instances.get(ref)
        if instance is not None and instance.state in LISTED:
            self._observer.announce(ref)
        error_text = await self._greet(ref)
        if error_text:
            self._post(Happened(ref, Trigger.LOST, error_text))

    async def _reconfigure(self, command: c.ReconfigureInstance) -> None:
        client = self._observer.client(command.ref)
        if client is None:
            return  # LOST has been reported
        message = reconfigure_message(command.before, command.after, self._launcher.config.logging_config)
        try:
            ready = await client.request("reconfigure", message, Ready, timeout_s=None)
        except EaglerayError as error:
            if not client.closed:
                self._post(Happened(command.ref, Trigger.REFUSED, str(error)))
            return
        if ready.error:
            logger.error("%s refused its new configuration:\n%s", command.ref, ready.error)
            self._post(Happened(command.ref, Trigger.REFUSED, ready.error))
        else:
            self._post(Happened(command.ref, Trigger.RECONFIGURED))

    async def _check(self, ref: str, timeout_s: float) -> None:
        client = self._observer.client(ref)
        if client is None:
            self._post(HealthChecked(ref, "it is not connected"))
            return
        try:
            health = await client.request("check_health", Empty(), Health, timeout_s=timeout_s)
            error = health.error
            if health.expired:
                self._post(Expired(ref, health.expired))
        except EaglerayError as failure:
            error = str(failure)
        if error:
            logger.warning("health check of %s failed: %s", ref, error)
        self._post(HealthChecked(ref, error, self._rss_bytes(ref)))

    def _rss_bytes(self, ref: str) -> int:
        """Measured from outside, and only where somebody wants to know."""
        instance = self._world.instances.get(ref)
        deployment = self._world.deployments.get(instance.row.owner) if instance is not None else None
        if instance is None or deployment is None:
            return 0
        target = deployment.target_of(instance.row.version)
        if target is None or target.max_replica_rss_bytes is None:
            return 0
        return resident_bytes(instance.row.pid)

    async def _close_listeners(self) -> None:
        try:
            await self._engine.close_listeners()
        except EngineError as error:
            logger.warning("The listeners are not closed: %s", error.reason)

    async def _drain(self, ref: str, timeout_s: float) -> None:
        if self._shutting is not None:  # before the last one stops to accept
            await asyncio.wait({self._shutting})
        try:
            client = await self._observer.dial(ref, self._launcher.address(ref))
            self._observer.announce(ref)
            await client.request("drain", Drain(timeout_s=timeout_s), Empty, timeout_s=None)
        except (OSError, EaglerayError) as error:
            # A replica may end as soon as it has drained, and take its answer with it.
            logger.info("draining of %s ended: %s", ref, error)
        self._post(Happened(ref, Trigger.DRAINED))

    async def _stop(self, ref: str, signum: int) -> None:
        if (waiting := self._unborn.get(ref)) is not None:
            waiting.cancel()
            return
        try:
            await self._observer.stop(ref, signum)
        except EngineError as error:
            logger.warning("%s could not be signalled: %s", ref, error.reason)

    async def close(self) -> None:
        await self._tasks.close()
