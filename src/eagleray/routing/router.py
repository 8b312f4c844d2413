"""The one router: proxy, handles and local testing choose replicas with it.

It holds the last routing table, a `Pool` for each deployment that is used, and the connections to its replicas. It
never asks the control plane anything: with the controller gone it goes on with what it has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable

from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.base.metrics import Registry
from eagleray.base.tasks import Tasks
from eagleray.routing.board import Board, QueueBoard, board_path
from eagleray.routing.call import RoutedCall
from eagleray.routing.forgetting import Forgetting
from eagleray.routing.metrics import Origin, RouterMetrics
from eagleray.routing.policies import Policy, make_policy
from eagleray.routing.pool import Pool
from eagleray.routing.pulse import Pulse
from eagleray.routing.table import RouteMatcher, RouterEntry, RoutingTable
from eagleray.routing.target import Target
from eagleray.routing.waiting_room import Chooser, Fanout
from eagleray.rpc.client import Client
from eagleray.rpc.memory import SharedMemory

logger = logging.getLogger("eagleray.routing")

Connect = Callable[..., Awaitable[Client]]

_REDIAL_S = (0.0, 0.05, 0.2, 1.0)
"""Seconds before each attempt to reach a replica that the table lists; the last one repeats. A replica that has died
leaves the table within milliseconds, so later attempts are for one that dropped just this connection."""


_UNKNOWN_S = 3.0
"""Seconds that calls wait for a deployment which the table does not name: its deploy may have been acknowledged, and
the table on its way, also from a controller that has just died."""


class Router:
    """Belongs to the loop that it was made on. `eager_ingress` connects to ingress replicas before the first call.

    `shared` lets other threads use `submit_alone`. Large arguments and results go through `memory`. In `directory`,
    the instance's runtime directory, it shares the counts of waiting requests with the other routers of the machine;
    without, it counts its own. What happens here is counted in `registry`, the one of this process, under `origin`.
    """

    def __init__(
        self,
        connect: Connect = Client.connect,
        *,
        eager_ingress: bool = False,
        shared: bool = False,
        memory: SharedMemory | None = None,
        directory: str = "",
        clock: Callable[[], float] = time.monotonic,
        registry: Registry | None = None,
        origin: Origin = ("DRIVER", ""),
    ) -> None:
        self.registry = registry or Registry(enabled=False)
        self._metrics = RouterMetrics(self.registry, origin, clock) if self.registry.enabled else None
        self.table = RoutingTable()
        self.matcher = RouteMatcher(())
        self._connect = connect
        self._eager_ingress = eager_ingress
        self._shared = shared
        self._memory = memory
        self._directory = directory
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._tasks = Tasks("router")
        self._dialling: set[asyncio.Task[None]] = set()
        self._missing: dict[str, asyncio.TimerHandle] = {}
        self._lost: NotRunningError | None = None
        self._closed = False
        self._pulse = Pulse(self._pools)
        self._forgetting = Forgetting(self._pools, self._drop, self.after, clock)
        self.on_forgotten: Callable[[str], object] | None = None
        """Called with the key of a deployment that has been out of the table, and unused, for a while."""
        self.on_starved: Callable[[str], object] | None = None
        """Called with the key of a deployment that scales, has no replica, and for which a call waits."""

    # ---- requests --------------------------------------------------------------------------------------------

    def submit(self, call: RoutedCall) -> None:
        """Sends the call to a replica with room, or lets it wait for one; never blocks and never raises."""
        pool = self._pools.get(call.key)
        if pool is None:
            if self._closed:
                call.on_failed(NotRunningError("Eagleray is shutting down; the request was not sent."))
                return
            pool = self.open(call.key)
        pool.submit(call)

    def submit_alone(self, call: RoutedCall, post: Callable[..., object]) -> bool:
        """From any thread: sends the call if that needs nothing of the loop. False: nothing was done, `submit` it.

        `post` runs a function on the loop.
        """
        pool = self._pools.get(call.key)
        return pool is not None and pool.submit_alone(call, post)

    def spread(self, key: str, fanout: Fanout) -> None:
        """Gives `fanout` all replicas of the deployment that run; see `Pool.spread`."""
        if self._closed:
            fanout.on_failed(NotRunningError("Eagleray is shutting down; the request was not sent."))
        else:
            self.open(key).spread(fanout)

    def open(self, key: str) -> Pool:
        """Starts to follow a deployment: connects to its replicas. Idempotent."""
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(key, self, self._clock)
            if self._metrics is not None:
                pool.metrics = self._metrics.of(pool)
            pool.update(self.table.deployments.get(key))
            self._pulse.watch()
            if pool.entry is None:
                self._forgetting.watch()
        return pool

    def ongoing(self, key: str) -> int:
        """Calls of this router in flight at replicas of the deployment."""
        pool = self._pools.get(key)
        return pool.ongoing if pool else 0

    def queued(self, key: str) -> int:
        """Calls of this router that wait for a replica of the deployment."""
        pool = self._pools.get(key)
        return pool.queued if pool else 0

    def load(self, key: str) -> tuple[int, int, int] | None:
        """Calls that wait, calls at replicas, calls answered so far; None when there has never been one."""
        pool = self._pools.get(key)
        return None if pool is None else (pool.queued, pool.ongoing, pool.limit.replies)

    def resolved(self, key: str, seconds: float) -> None:
        """The responses among the arguments of a submitted call have taken so long to come."""
        pool = self._pools.get(key)
        if pool is not None and pool.metrics is not None:
            pool.metrics.args_resolution.observe(seconds * 1000.0)

    # ---- the table -------------------------------------------------------------------------------------------

    def update(self, table: RoutingTable) -> None:
        """Takes over a newer table."""
        self._lost = None
        if table.routes != self.table.routes:
            self.matcher = RouteMatcher(table.routes)
        self.table = table
        for key, pool in self._pools.items():
            pool.update(table.deployments.get(key))
        if self._eager_ingress:
            for route in table.routes:
                self.open(route.deployment)
        self._pulse.watch()
        self._forgetting.watch()

    def _drop(self, key: str) -> None:
        del self._pools[key]
        if key in self._missing:  # it is of this pool, and must not keep the next one from having its own
            self._missing.pop(key).cancel()
        if self.on_forgotten is not None:
            self.on_forgotten(key)

    def lose(self, error: NotRunningError) -> None:
        """The instance has ended: who waits is told so, and others after a while, unless another one takes its place.

        The tables of that one are new, whatever their version is.
        """
        if self._lost is None:
            for pool in self._pools.values():
                pool.fail_waiting(error)
            self.update(RoutingTable())
            self._lost = error

    async def settled(self, timeout_s: float = 2.0) -> None:
        """Waits until the connections that the last table asked for are there, have failed, or the time is up."""
        if self._dialling:
            await asyncio.wait(set(self._dialling), timeout=timeout_s)

    # ---- of pools --------------------------------------------------------------------------------------------

    def open_board(self, key: str) -> Board | None:
        """The count of those who wait for the deployment at all routers, or None when it cannot be shared."""
        if not self._directory:
            return None
        try:
            return QueueBoard(board_path(self._directory, key))
        except OSError as error:
            logger.warning("the queue of %s is counted in this process only: %s", key, error)
            return None

    def missed(self, pool: Pool) -> None:
        """Calls wait for what the table does not name: for a while only, once there is a table."""
        if (self.table.version or self._lost) and pool.key not in self._missing:
            loop = asyncio.get_running_loop()
            self._missing[pool.key] = loop.call_later(_UNKNOWN_S, self._give_up, pool)

    def _give_up(self, pool: Pool) -> None:
        self._missing.pop(pool.key, None)
        if pool.entry is None and self._lost is not None:
            pool.fail_waiting(self._lost)
        elif pool.entry is None:
            pool.fail_unavailable("it does not exist: it was deleted or never deployed")

    def starved(self, pool: Pool) -> None:
        """Calls wait for a deployment that has no replica."""
        if self.on_starved is not None and pool.entry is not None and pool.entry.load_interval_s:
            self.on_starved(pool.key)

    def after(self, delay_s: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def steer(self, pool: Pool, router: RouterEntry | None) -> tuple[Policy, Chooser | None]:
        if router is None:
            return Policy(), None
        try:
            if not router.kind:
                # It unpickles, which the controller, for whom this package is the routing table, must not even load.
                from eagleray.routing.chooser import UserChooser

                return Policy(), UserChooser(pool, router, self._tasks)
            return make_policy(router.kind, json.loads(router.kwargs)), None
        except Exception:  # user code, or its options; requests are worth more than the way they are routed
            logger.exception("The request router of %s cannot be used; power of two choices is.", pool.key)
            return Policy(), None

    # ---- connections -----------------------------------------------------------------------------------------

    def dial(self, target: Target) -> None:
        if not self._closed:
            task = self._tasks.start(self._reach(target), name=f"dial {target.entry.replica_id}")
            self._dialling.add(task)
            task.add_done_callback(self._dialling.discard)

    async def _reach(self, target: Target) -> None:
        attempt = 0
        while target.listed and not self._closed:
            delay = _REDIAL_S[min(attempt, len(_REDIAL_S) - 1)]
            attempt += 1
            if delay:
                await asyncio.sleep(delay)
            try:
                client = await self._connect(
                    target.entry.address,
                    on_close=lambda client: self._on_close(client, target),
                    on_room=target.on_room,
                    on_goaway=target.on_goaway,
                    on_limit=target.on_limit,
                    on_report=target.on_report,
                    shared=self._shared,
                    memory=self._memory,
                    greeted=True,  # node listens for a replica that has died until it has been reaped
                )
            except (OSError, EaglerayError) as error:
                logger.debug("replica %s cannot be reached: %s", target.entry.replica_id, error)
                continue
            if client.closed:
                continue
            if not target.listed or self._closed:
                client.close()
                return
            target.client = client
            target.full = False
            target.pool.on_connected()
            return

    def _on_close(self, client: Client, target: Target) -> None:
        if target.client is client:
            target.client = None
            target.pool.on_disconnected()
            if target.listed:
                self.dial(target)

    async def close(self) -> None:
        """Fails what waits, drops the connections (calls in flight end with ReplicaDiedError). Idempotent."""
        self._closed = True
        for timer in self._missing.values():
            timer.cancel()
        error = NotRunningError("Eagleray is shutting down; the request was not sent.")
        self._pulse.close()
        self._forgetting.close()
        pools = dict(self._pools)
        self._pools.clear()
        for pool in pools.values():
            pool.close(error)
        await self._tasks.close()
