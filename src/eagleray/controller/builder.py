"""Builders: short-lived children that import the user's module and describe its application.

The controller itself never imports user code. A builder answers once and ends; the application's row is what makes
sure that a build is begun again when the controller dies meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from eagleray.base.errors import EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.base.tasks import Tasks
from eagleray.controller.environments import Environments
from eagleray.controller.last_words import last_line
from eagleray.controller.launch import Launcher
from eagleray.controller.observer import Observer, describe
from eagleray.controller.passing import PassingChildren
from eagleray.engine.base import Engine, EngineError
from eagleray.reconcile.events import BuildRequest
from eagleray.spec.environment import recipe_of
from eagleray.wire.control import Built, Empty, Exited

_END_GRACE_S = 2.0
"""A builder that has answered ends by itself within this, or is killed."""

OnBuilt = Callable[[str, int, Built], Awaitable[None]]
"""Called with application, generation and what the builder said."""


class Builder:
    """One build per application at a time: a newer one ends the older. `on_built` is called for each that ended."""

    def __init__(
        self,
        engine: Engine,
        observer: Observer,
        launcher: Launcher,
        environments: Environments,
        on_built: OnBuilt,
    ) -> None:
        self._engine = engine
        self._observer = observer
        self._launcher = launcher
        self._environments = environments
        self._on_built = on_built
        self._tasks = Tasks("builder")
        self._children = PassingChildren(observer, self._tasks)
        self._current: dict[str, asyncio.Task[None]] = {}

    def build(self, app: str, generation: int, request: BuildRequest) -> None:
        former = self._current.get(app)
        if former is not None:
            former.cancel()
        self._current[app] = self._tasks.start(
            self._build(app, generation, request), name=f"build {app} {generation}"
        )

    def stop(self, app: str) -> None:
        """Ends the build of the application, if there is one: an import may take for ever."""
        current = self._current.pop(app, None)
        if current is not None:
            current.cancel()

    async def _build(self, app: str, generation: int, request: BuildRequest) -> None:
        ref = f"builder-{new_unique_id()}"
        with self._children.one(ref) as exited:
            built = await self._ask(ref, app, request, exited)
            await self._on_built(app, generation, built)
            await asyncio.wait({exited}, timeout=_END_GRACE_S)

    async def _ask(self, ref: str, app: str, request: BuildRequest, exited: asyncio.Future[Exited]) -> Built:
        try:
            environment = json.loads(request.runtime_env) if request.runtime_env else {}
            prepared = await self._environments.prepare(recipe_of(environment))
            if prepared.error:
                return Built(error=prepared.error)
            await self._engine.start(self._launcher.builder_child(ref, app, request, prepared))
        except EngineError as error:
            return Built(error=error.reason)
        try:
            client = await self._observer.dial(ref, self._launcher.address(ref))
            return await client.request("build", Empty(), Built, timeout_s=None)
        except (OSError, EaglerayError) as error:
            await asyncio.wait({exited}, timeout=_END_GRACE_S)
            how = describe(exited.result()) if exited.done() else str(error)
            log = self._launcher.builder_log_path(app)
            last = last_line(log)
            ends = f", which ends with: {last}" if last else ""
            return Built(error=f"'{request.import_path}' could not be imported: {how}. Its log: {log}{ends}")

    async def close(self) -> None:
        await self._tasks.close()
