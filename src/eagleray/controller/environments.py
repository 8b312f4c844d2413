"""Environments of this instance: asks for each by a child that makes it, and tells what is being made.

The same environment is asked for once at a time, whoever needs it; whether it is there already, the child looks.
"""

from __future__ import annotations

import asyncio
import hashlib

from eagleray.base.errors import EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.base.tasks import Tasks
from eagleray.controller.listing import control_address
from eagleray.controller.observer import Observer, describe
from eagleray.controller.passing import PassingChildren
from eagleray.engine.base import Engine, EngineError
from eagleray.wire.control import Empty, NodeConfig, StartChild, encode
from eagleray.wire.environment import EnvironmentLaunch, Prepared

_EXIT_NOTICE_S = 1.0


class Environments:
    """`preparing` is the world's: recipes under way, with what there is to tell of them."""

    def __init__(
        self, engine: Engine, observer: Observer, config: NodeConfig, preparing: dict[str, str]
    ) -> None:
        self._engine = engine
        self._observer = observer
        self._config = config
        self._preparing = preparing
        self._tasks = Tasks("environments")
        self._children = PassingChildren(observer, self._tasks)
        self._running: dict[str, asyncio.Task[Prepared]] = {}
        self._wanted: dict[asyncio.Task[Prepared], int] = {}

    async def prepare(self, recipe: str) -> Prepared:
        """`error` says why it could not be made. It is given up when the last who wants it is cancelled."""
        if not recipe:
            return Prepared()
        task = self._running.get(recipe)
        if task is None:
            task = self._tasks.start(self._make(recipe), name="prepare environment")
            self._running[recipe] = task
        self._wanted[task] = self._wanted.get(task, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._wanted[task] -= 1
            if not self._wanted[task]:
                del self._wanted[task]
                task.cancel()
                if self._running.get(recipe) is task:
                    del self._running[recipe]

    async def _make(self, recipe: str) -> Prepared:
        ref = f"environment-{new_unique_id()}"
        log_path = (
            f"{self._config.logs_dir}/environment_{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.log"
        )
        address = control_address(self._config.runtime_dir, ref)
        child = StartChild(
            ref=ref,
            module="eagleray.engine.environments.child",
            payload=encode(EnvironmentLaunch(recipe=recipe)),
            listen=address.removeprefix("unix:"),
            log_path=log_path,
        )
        self._preparing[recipe] = f"Installing packages... (log: {log_path})"
        with self._children.one(ref) as exited:
            try:
                await self._engine.start(child)
                client = await self._observer.dial(ref, address)
                return await client.request("prepare", Empty(), Prepared, timeout_s=None)
            except EngineError as error:
                return Prepared(error=error.reason)
            except (OSError, EaglerayError) as error:
                await asyncio.wait({exited}, timeout=_EXIT_NOTICE_S)
                how = describe(exited.result()) if exited.done() else str(error)
                return Prepared(error=f"The environment could not be made: {how}. Its log: {log_path}")
            finally:
                self._preparing.pop(recipe, None)

    async def close(self) -> None:
        await self._tasks.close()
