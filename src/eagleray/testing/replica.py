"""A replica that is a thread of this process: the same worker, without sockets, process-wide state and a controller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eagleray.replica.worker import Worker
from eagleray.rpc.server import ServerConnection
from eagleray.serve import context
from eagleray.serve.runtime import Runtime
from eagleray.testing.routing import Follow, LocalRuntime, LocalWorld
from eagleray.wire.control import ReplicaLaunch


class LocalReplica(Worker):
    """One replica. Belongs to the loop that it is started on; user code has a loop and a thread of its own."""

    shares_process = True

    def __init__(
        self, launch: ReplicaLaunch, target: Callable[..., Any], world: LocalWorld, follow: Follow
    ) -> None:
        super().__init__(launch)
        self.launch = launch
        self.address = f"replica {launch.replica_id}"
        self._is_up = False
        self._target = target
        self._world = world
        self._follow = follow
        self._place = context.Process()
        self._place.replica = self._replica
        self._place.declare_batcher = self._declare_batcher
        self._place.hold_answers = self._calls.hold
        self._base_context.run(context.here.set, self._place)

    async def start(self) -> str:
        """Returns when it takes calls at `address`, or the error for the user."""
        self._open()
        self._world.listen(self.address, self._user_loop.loop, self._accept)
        error: str = await self._in_place(self._start(), "start")
        self._is_up = not error
        return error

    def _accept(self) -> ServerConnection:
        return ServerConnection(self._calls, self._intake.take, None)

    async def stop(self) -> None:
        """Takes no more calls, waits for those under way, ends user code and its threads."""
        timeout_s = self.launch.graceful_shutdown_timeout_s if self._is_up else 0.0
        await self._in_place(self._stop(timeout_s), "stop")
        self._world.forget(self.address)
        await self._close()

    @property
    def runtime(self) -> Runtime | None:
        """What carries the calls of its user code."""
        return self._place.runtime

    async def _in_place(self, work: Any, name: str) -> Any:
        """Awaits `work` where user code finds this replica's context."""
        return await self._tasks.start(work, name=name, context=self._base_context.copy())

    # ---- in place of what a process has ----------------------------------------------------------------------

    def _log(self, config: dict[str, Any]) -> None:
        """Lines go where the test's own logging sends them."""

    def _settle(self, loop: asyncio.AbstractEventLoop) -> Runtime:
        self._place.runtime = LocalRuntime(loop, self._launch.deployment, self._world, self._follow)
        self._place.runtime.watch()  # constructors may look for other applications
        return self._place.runtime

    def _load(self) -> Callable[..., Any]:
        return self._target
