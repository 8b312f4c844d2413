"""What a driver's process has counted, told to the controller over the connection of its table subscription.

Nobody dials a driver, so it tells by itself: at most once a second, and nothing while nothing changes. A call that is
not answered holds the next one back; totals make up for what was not told.
"""

from __future__ import annotations

import asyncio
import logging

from eagleray.base.errors import EaglerayError
from eagleray.base.metrics import Registry
from eagleray.base.tasks import Tasks
from eagleray.rpc.client import Client
from eagleray.wire.control import Empty
from eagleray.wire.metrics import Shipment

logger = logging.getLogger("eagleray.routing")

INTERVAL_S = 1.0


class Metering:
    """Belongs to a subscription, whose connections it uses, and to its loop. `close` ends it."""

    def __init__(self, registry: Registry, subscriber: str) -> None:
        self._registry = registry
        self._subscriber = subscriber
        self._client: Client | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._everything = True
        self._is_sending = False
        self._tasks = Tasks("metering")

    def connected(self, client: Client) -> None:
        """A controller, perhaps a new one, which knows nothing yet."""
        self._client = client
        self._everything = True
        if self._registry.enabled and self._timer is None:
            self._tick()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._tick)
        client = self._client
        if client is None or client.closed or self._is_sending:
            return
        snapshots = self._registry.collect(everything=self._everything)
        is_whole, self._everything = self._everything, False
        if snapshots:
            self._is_sending = True
            shipment = Shipment(snapshots=snapshots, subscriber=self._subscriber, is_whole=is_whole)
            self._tasks.start(self._send(client, shipment), name="tell metrics")

    async def _send(self, client: Client, shipment: Shipment) -> None:
        try:
            await client.request("metrics", shipment, Empty, timeout_s=None)
        except EaglerayError as error:
            logger.debug("metrics were not told: %s", error)  # the next controller hears everything
        finally:
            self._is_sending = False

    async def close(self) -> None:
        """Tells nothing any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._tasks.close()
