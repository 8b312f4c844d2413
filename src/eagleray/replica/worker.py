"""A replica process: takes and answers calls on the user's loop, and obeys the controller on a loop beside it.

    STARTING -> READY -> DRAINING -> STOPPED        STARTING -> FAILED

Start-up runs user code while the socket already answers, so `ready` can wait for it and nobody polls. A replica that
has drained ends by itself. SIGTERM means: stop now, but in order.

Calls do not pass through the control loop: two hand-overs between threads would be most of a short call's time. User
code that blocks its loop holds up its own calls only; the controller is still answered. Only this module knows both
loops; hooks cross between them by `UserLoop.run`, and what belongs to the user's loop is told by its bridge.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from contextvars import Context
from functools import partial
from types import SimpleNamespace
from typing import Any

from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.base.metrics import Registry
from eagleray.base.settings import Settings
from eagleray.base.tasks import Tasks
from eagleray.replica.call import Floor
from eagleray.replica.callable import UserCode
from eagleray.replica.capacity import Capacity
from eagleray.replica.errors import trimmed_text
from eagleray.replica.intake import Intake
from eagleray.replica.lag import ReplicaLag
from eagleray.replica.loader import extend_path, holds_handles, load_callable, load_init
from eagleray.replica.logging import ReplicaLogs
from eagleray.replica.metrics import ReplicaMetrics
from eagleray.replica.recycling import Recycling
from eagleray.replica.report import Reporter
from eagleray.replica.reservation import HELD_S, expire_reserved
from eagleray.replica.slots import Slots
from eagleray.replica.stats import StatsHook
from eagleray.replica.tasks import TaskConsumer
from eagleray.replica.threads import Threads
from eagleray.replica.tracing import ReplicaTracing
from eagleray.replica.user_loop import UserLoop
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.feed import MetricsFeed
from eagleray.rpc.memory import SharedMemory
from eagleray.rpc.server import Incoming, Server
from eagleray.rpc.unix import calls_path, listen_unix
from eagleray.serve import context
from eagleray.serve.batching import Batcher
from eagleray.serve.context import ReplicaContext, ReplicaRank
from eagleray.serve.ingress import docs_path
from eagleray.serve.model_metrics import ModelMetrics
from eagleray.serve.multiplex import ModelHost, declares_models
from eagleray.serve.runtime import Runtime
from eagleray.wire.control import Drain, Empty, Health, Ready, Reconfigure, ReplicaLaunch, decode

logger = logging.getLogger("ray.serve")

_STOP_S = 0.8
"""Seconds for user code to end at SIGTERM, or after a drain's time is over: node kills after 1 s."""


_TURN_S = 0.1
"""Seconds for the user's loop to say that it is idle, when nothing runs there."""


class Worker:
    """One replica. `run` is its whole life."""

    shares_process = False
    """Whether other replicas live in this process."""

    def __init__(self, launch: ReplicaLaunch, log_path: str = "") -> None:
        self._launch = launch
        self._logs = ReplicaLogs(launch, log_path)
        self._settings = Settings.from_env()
        self.registry = Registry(enabled=self._settings.metrics)
        self._recycling = Recycling(launch)
        self._slots = self._recycling.slots()
        labels = (launch.deployment, launch.replica_id, launch.app)
        self._metrics = ReplicaMetrics(self.registry, labels, self._slots)
        self._lag = ReplicaLag(self.registry, launch)
        self._feed = MetricsFeed(self.registry, naps=True, on_look=self._lag.on_look)
        self._intake = Intake(self._slots, self._metrics, self._feed)
        self._user_config = json.loads(launch.user_config) if launch.user_config else None
        self._replica = _context_of(launch, self._recycling)
        self._tasks = Tasks("replica")
        stats = StatsHook(self.registry, self._metrics.labels)
        self._control = ControlMethods(
            {
                "ready": self._ready,
                "reconfigure": self._reconfigure,
                "check_health": self._check_health,
                "drain": self._drain,
                "metrics": self._feed.follow,
                "autoscaling_stats": lambda _body, _call: stats.ask(self._user_loop, self._floor),
            },
            name="replica control",
        )
        self._server = Server(self._control.dispatch)
        self._calls = Server(self._intake.take)
        self._capacity = Capacity(
            launch.deployment, self._slots, launch.max_ongoing_requests_given, self._calls.limit
        )
        self._reporter = Reporter(self._calls.report)
        self._models = self._replica._models = ModelHost(
            self._reporter.models, partial(ModelMetrics, self.registry, self._metrics.labels)
        )
        self._base_context = Context()
        self._consumer = TaskConsumer(self._slots.limit, self._base_context)
        self._tracing = ReplicaTracing(launch, self.registry)
        self._memory: SharedMemory | None = None
        self._floor: Floor | None = None
        self._runtime: Runtime | None = None

    async def run(self, listener: socket.socket) -> None:
        """Obeys on `listener`, and takes calls beside it, until drained or cancelled; then user code has been told and
        all is closed.
        """
        self._log(self._launch.logging_config)
        calls = listen_unix(calls_path(listener.getsockname()))
        self._open()
        self._lag.post = self._user_loop.bridge.put
        self._memory = self._calls.memory = SharedMemory.for_loop(self._user_loop.loop)
        await self._user_loop.run(self._calls.start(calls))
        self._started = self._tasks.start(self._start(), name="start")
        await self._server.start(listener)
        try:
            await self._drained.wait()
        except asyncio.CancelledError:
            if self._draining is not None:
                self._draining.cancel()
                await asyncio.wait([self._draining])
            await self._stop(0.0)
        finally:
            await self._close()

    def _open(self) -> None:
        self._user_loop = UserLoop()
        self._threads = Threads()
        self._drained = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def _log(self, config: dict[str, Any]) -> None:
        self._logs.apply(config)

    # ---- start -----------------------------------------------------------------------------------------------

    async def _start(self) -> str:
        """The error for the user, or ""."""
        error = await self._user_loop.run(self._start_user())
        if error:
            logger.error("The replica could not be started:\n%s", error)
        return error

    async def _start_user(self) -> str:
        """On the user's loop."""
        launch = self._launch
        loop = self._user_loop.loop
        try:
            self._runtime = self._recycling.runtime = self._settle(loop)
            if holds_handles(launch):
                self._runtime.watch()
                await asyncio.sleep(0)  # the subscription dials while a sync constructor blocks this loop
            target = self._load()
            if declares_models(target):
                self._models.changed()  # routers are to know it before the first request
            threads = self._settings.run_sync_in_threadpool
            user = UserCode(launch.deployment, target, threads=threads, shared=self.shares_process)
            args, kwargs = load_init(launch)
        except BaseException as error:  # importing runs user code, which may raise anything
            return trimmed_text(error)
        post, metrics = self._user_loop.post, self._metrics
        floor = Floor(user, loop, self._slots, self._threads, post, metrics, self._base_context)
        self._floor = self._intake.floor = floor
        self._logs.attach(floor)
        user.on_made = partial(setattr, self._replica, "servable_object")
        problem = await user.start(args, kwargs, self._user_config, launch.rank)
        problem = problem or await user.check_health()  # the first one belongs to the start
        problem = problem or await self._reporter.begin(user.instance, launch.deployment_config)
        problem = problem or self._consumer.begin(target, user.instance)
        if not problem:
            self._capacity.find(user.instance)
            self._metrics.started()
            self._slots.open()
        return problem

    def _settle(self, loop: asyncio.AbstractEventLoop) -> Runtime:
        """Makes this process the replica's."""
        runtime = Runtime.for_loop(
            loop,
            self._launch.controller_address,
            memory=self._memory,
            registry=self.registry,
            origin=("REPLICA", self._launch.replica_id),
        )
        context.install(runtime, self._replica)
        context.process.declare_batcher = self._declare_batcher
        context.process.hold_answers = self._calls.hold
        extend_path(self._launch.sys_path)
        self._tracing.begin(self._logs.path, self._intake)
        return runtime

    def _load(self) -> Callable[..., Any]:
        return load_callable(self._launch)

    def _declare_batcher(self, batcher: Batcher) -> None:
        """From any thread."""
        self._user_loop.post(self._capacity.declare, batcher)

    # ---- control ---------------------------------------------------------------------------------------------

    async def _ready(self, payload: bytes, incoming: Incoming) -> Ready:
        return self._state(await asyncio.shield(self._started))

    def _state(self, error: str) -> Ready:
        user = self._floor.user if self._floor is not None else None
        if error or user is None:
            return Ready(error=error, pid=os.getpid())
        return Ready(pid=os.getpid(), docs_path=docs_path(user.app), methods=user.methods)

    async def _reconfigure(self, payload: bytes, incoming: Incoming) -> Ready:
        change = decode(payload, Reconfigure)
        error = await asyncio.shield(self._started)
        if error:
            return self._state(error)
        if change.logging_config is not None:
            self._log(change.logging_config)
            self._user_loop.bridge.put(self._logs.renew)
        limit, is_given = change.max_ongoing_requests, change.max_ongoing_requests_given
        if limit is not None or is_given is not None:
            self._user_loop.bridge.put(self._capacity.configure, limit, is_given)
        self._consumer.resize(limit)
        if change.world_size is not None:
            self._replica.world_size = change.world_size
        return self._state(await self._reconfigure_user(change))

    async def _reconfigure_user(self, change: Reconfigure) -> str:
        assert self._floor is not None
        user = self._floor.user
        rank = self._replica.rank.rank if change.rank is None else change.rank
        moved = rank != self._replica.rank.rank
        self._replica.rank = ReplicaRank(rank, 0, rank)
        if change.user_config is not None:
            self._user_config = json.loads(change.user_config) if change.user_config else None
        if (change.user_config is None or self._user_config is None) and not (moved and user.wants_rank):
            return ""
        return await self._user_loop.run(user.reconfigure(self._user_config, rank))

    async def _check_health(self, payload: bytes, incoming: Incoming) -> Health:
        floor, error = self._floor, ""
        if floor is not None and self._started.done() and not floor.user.is_reconfiguring:
            # Also without a check of the user's: that its loop turns is the least.
            error = await self._user_loop.run(floor.user.check_health())
        return Health(error=error, expired=self._recycling.expired, ongoing=self._slots.ongoing)

    async def _drain(self, payload: bytes, incoming: Incoming) -> Empty:
        timeout_s = decode(payload, Drain).timeout_s
        if self._draining is None:
            self._draining = self._tasks.start(self._stop(timeout_s), name="drain")
        await asyncio.shield(self._draining)
        self._feed.flush()
        asyncio.get_running_loop().call_soon(self._drained.set)
        return Empty()

    # ---- end -------------------------------------------------------------------------------------------------

    async def _stop(self, timeout_s: float) -> None:
        """Takes no more calls, waits for those under way, ends user code."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        calls_end = _end_calls(self._user_loop, self._slots, self._floor, self._calls.goaway, timeout_s)
        await self._consumer.stop_beside(calls_end, timeout_s)
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + _STOP_S)):
                problem = await self._user_loop.run(self._stop_user())
        except TimeoutError:
            problem = "User code did not end in time."
        if problem:
            logger.error("The replica did not stop in order:\n%s", problem)

    async def _stop_user(self) -> str:
        """On the user's loop."""
        floor = self._floor
        if floor is None:
            return ""
        # Requests are answered, but their background tasks may still run.
        if running := [call.task for call in floor.running if call.task is not None]:
            await asyncio.wait(running, timeout=_STOP_S)
        await self._reporter.close()
        problem = await floor.user.stop()
        await self._models.close()
        return problem

    async def _close(self) -> None:
        await self._control.close()
        await self._tasks.close()
        await self._server.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._user_loop.run(self._close_calls())
        except TimeoutError:
            pass  # user code blocks its loop: the process ends anyway
        self._tracing.close()
        self._threads.close()
        self._user_loop.stop()
        await self._user_loop.wait_ended(_STOP_S)

    async def _close_calls(self) -> None:
        """On the user's loop."""
        self._logs.flush()
        await self._calls.close()
        if self._runtime is not None:
            await self._runtime.close()
        if self._memory is not None:
            self._memory.close()


def _context_of(launch: ReplicaLaunch, recycling: Recycling) -> ReplicaContext:
    return ReplicaContext(
        ReplicaID(launch.replica_id, DeploymentID(launch.deployment, launch.app)),
        rank=ReplicaRank(launch.rank, 0, launch.rank),
        world_size=launch.world_size,
        code_version=launch.version,
        _deployment_config=_as_object(launch.deployment_config),
        _expire=recycling.expire,
    )


def _as_object(options: dict[str, Any]) -> SimpleNamespace:
    """Options of the deployment as attributes, as programs read them in Ray Serve."""
    return SimpleNamespace(
        **{
            name: SimpleNamespace(**value) if isinstance(value, dict) and name != "user_config" else value
            for name, value in options.items()
        }
    )


async def _wait_idle(user_loop: UserLoop, slots: Slots, timeout_s: float) -> bool:
    """Whether no call runs any more, within `timeout_s`."""
    loop = asyncio.get_running_loop()
    idle = asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(idle.set)

    user_loop.bridge.put(slots.when_idle, tell)
    try:
        async with asyncio.timeout(max(timeout_s, _TURN_S)):
            await idle.wait()
    except TimeoutError:
        return False
    return True


async def _end_calls(
    user_loop: UserLoop, slots: Slots, floor: Floor | None, goaway: Callable[[], object], timeout_s: float
) -> None:
    """Takes no more calls, lets them end by themselves for `timeout_s`, then cancels them."""
    to_user = user_loop.bridge.put
    to_user(slots.drain)
    to_user(goaway)
    forgetting = None
    if floor is not None:
        forgetting = asyncio.get_running_loop().call_later(HELD_S, to_user, expire_reserved, floor)
    try:
        is_idle = await _wait_idle(user_loop, slots, timeout_s)
    finally:
        if forgetting is not None:
            forgetting.cancel()
    if not is_idle and floor is not None:
        logger.warning("%d requests did not end within %g s.", slots.ongoing, timeout_s)
        floor.stopping = True
        to_user(expire_reserved, floor)
        to_user(_cancel_running, floor)
        await _wait_idle(user_loop, slots, _STOP_S)


def _cancel_running(floor: Floor) -> None:
    for call in tuple(floor.running):
        call.cancel()
