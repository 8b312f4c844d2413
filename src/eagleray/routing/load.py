"""What a router tells the controller of its load, for deployments that scale by it.

Counts are read now and then, nothing is counted for this: a request does not notice. Only a call that waits where there
is no replica at all is told at once, because nobody else can wake the deployment.
"""

from __future__ import annotations

import asyncio
import logging

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.routing.router import Router
from eagleray.rpc.client import Client
from eagleray.wire.control import Empty
from eagleray.wire.scaling import LoadReport

logger = logging.getLogger("eagleray.routing")


class LoadReports:
    """Belongs to a subscription, whose connections it uses, and to the router's loop. `close` ends it."""

    def __init__(self, router: Router, subscriber: str) -> None:
        self._router = router
        self._subscriber = subscriber
        self._client: Client | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interval_s = 0.0
        self._told: dict[str, tuple[int, int, int]] = {}
        self._woken: set[str] = set()
        self._is_sending = False
        self._is_late = False
        self._tasks = Tasks("load reports")
        router.on_starved = self._on_starved

    def connected(self, client: Client) -> None:
        """A controller, perhaps a new one, which knows nothing yet."""
        self._client = client
        self._told.clear()

    def updated(self) -> None:
        """There is a new table: it says which deployments scale, and how often they want to know."""
        self._woken.clear()
        intervals = [
            entry.load_interval_s
            for entry in self._router.table.deployments.values()
            if entry.load_interval_s > 0
        ]
        self._interval_s = min(intervals, default=0.0)
        if not intervals:
            self._stop_timer()
        elif self._timer is None or not self._told:
            self._tick()

    def _on_starved(self, key: str) -> None:
        if key not in self._woken:
            self._woken.add(key)
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._stop_timer()
        if self._interval_s <= 0:
            return
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)
        client = self._client
        if client is None or client.closed:
            return
        if self._is_sending:
            self._is_late = True
            return
        loads = {}
        for key, entry in self._router.table.deployments.items():
            load = self._router.load(key) if entry.load_interval_s > 0 else None
            if load is not None and (load[0] or load[1] or self._told.get(key) != load):
                loads[key] = self._told[key] = load
        if loads:
            self._is_sending = True
            self._tasks.start(self._send(client, loads), name="report load")

    async def _send(self, client: Client, loads: dict[str, tuple[int, int, int]]) -> None:
        report = LoadReport(subscriber=self._subscriber, loads=loads)
        try:
            await client.request("load", report, Empty, timeout_s=None)
        except EaglerayError as error:
            logger.debug("the load was not told: %s", error)  # the next controller hears it at once
        finally:
            self._is_sending = False
        if self._is_late:
            self._is_late = False
            self._tick()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Tells nothing any more. Idempotent."""
        self._interval_s = 0.0
        self._stop_timer()
        await self._tasks.close()
