"""Keeps a router's table up to date: one streaming call to the controller, acknowledged version by version.

The controller's socket is bound by node and outlives the controller, so a dial while it is down waits in the backlog
and needs no retry loop. Until a new table comes the old one is used. Only a socket that nobody has any more says that
the whole instance has ended, which a driver may outlive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.base.ids import new_unique_id
from eagleray.base.tasks import Tasks
from eagleray.routing.load import LoadReports
from eagleray.routing.metering import Metering
from eagleray.routing.router import Connect, Router
from eagleray.routing.table import decode_table
from eagleray.rpc.client import Client
from eagleray.wire.control import Ack, Empty, Watch

logger = logging.getLogger("eagleray.routing")

_REDIAL_S = 0.1
"""Seconds between dials when the controller's socket itself refuses: then node is gone or restarting everything."""


class Subscription:
    """Follows the controller at `address` on behalf of `router`. `name` tells operators who this is.

    `is_driver`: nobody asks for its metrics, and it may outlive the instance.
    """

    def __init__(
        self,
        router: Router,
        address: str,
        name: str,
        connect: Connect = Client.connect,
        *,
        is_driver: bool = False,
    ) -> None:
        self._connect = connect
        self._is_driver = is_driver
        self._router = router
        self._address = address
        self._subscriber = f"{name}-{new_unique_id()}"
        self._tasks = Tasks("subscription")
        self._loads = LoadReports(router, self._subscriber)
        self._metering = Metering(router.registry, self._subscriber) if is_driver else None
        self._first = asyncio.Event()

    async def start(self, *, wait: bool = True) -> None:
        """Begins to follow; with `wait`, returns once the first table is in force."""
        self._tasks.start(self._follow(), name="watch routing table")
        if wait:
            await self._first.wait()

    async def close(self) -> None:
        await self._tasks.close()
        await self._loads.close()
        if self._metering is not None:
            await self._metering.close()

    async def _follow(self) -> None:
        while True:
            try:
                client = await self._connect(self._address)
            except (OSError, EaglerayError) as error:
                logger.debug("controller cannot be reached: %s", error)
                if self._is_driver and isinstance(error, ConnectionRefusedError | FileNotFoundError):
                    self._router.lose(
                        NotRunningError(f"The Eagleray instance at {self._address} has ended ({error}).")
                    )
                await asyncio.sleep(_REDIAL_S)
                continue
            try:
                await self._read(client)
            except (EaglerayError, msgspec.DecodeError) as error:
                logger.debug("table subscription ended: %s", error)
            finally:
                client.close()
            # The connection can also end at once, when the controller refuses it: do not spin.
            await asyncio.sleep(_REDIAL_S / 10)

    async def _read(self, client: Client) -> None:
        watch = Watch(since_version=self._router.table.version, subscriber=self._subscriber)
        self._loads.connected(client)
        if self._metering is not None:
            self._metering.connected(client)
        arrived = asyncio.Event()
        acknowledging = self._tasks.start(
            self._acknowledge(client, arrived), name="acknowledge routing tables"
        )
        try:
            async with contextlib.aclosing(client.subscribe("watch", watch)) as tables:
                async for chunk in tables:
                    table = decode_table(chunk)
                    if table.version >= self._router.table.version:
                        self._router.update(table)
                    arrived.set()
        finally:
            acknowledging.cancel()

    async def _acknowledge(self, client: Client, arrived: asyncio.Event) -> None:
        """Says which table is in force, once its replicas are connected or do not answer. Newer ones do not wait."""
        while True:
            await arrived.wait()
            arrived.clear()
            version = self._router.table.version
            await self._router.settled()
            self._first.set()
            try:
                await client.request(
                    "ack", Ack(subscriber=self._subscriber, version=version), Empty, timeout_s=None
                )
            except EaglerayError as error:
                logger.debug("routing table %d could not be acknowledged: %s", version, error)
                return
            self._loads.updated()
