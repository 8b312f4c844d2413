"""Pushes the routing table to all who route, and knows who routes by which version.

A replica that leaves may only be told to drain once nobody sends it requests: when every subscriber has acknowledged a
table without it, has gone away, or has been silent for too long (then the replica's own refusal protects it).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from eagleray.routing.table import RoutingTable, encode_table
from eagleray.rpc.server import Incoming

logger = logging.getLogger("eagleray.controller")

ACK_TIMEOUT_S = 5.0
"""A subscriber that is silent for longer does not hold up a drain."""

SETTLE_S = 1.0
"""After a restart subscribers need a moment to come back before their absence means anything."""

RESERVED_VERSIONS = 1000
"""Versions are reserved durably in blocks, so that a table need not wait for the store."""


def _nothing(*_: float) -> None:
    """Nobody wants to know."""


class _Subscriber:
    __slots__ = ("acked", "incoming", "sent")

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.sent = -1
        self.acked = -1


class Publisher:
    """`on_unlisted(ref)` is called once for each ref given to `await_unlisted`. `first_version` is reserved already."""

    def __init__(self, on_unlisted: Callable[[str], None], first_version: int, *, is_restart: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_unlisted = on_unlisted
        self._subscribers: dict[str, _Subscriber] = {}
        self._leaving: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._settled_at = self._loop.time() + (SETTLE_S if is_restart else 0.0)
        self.on_push: Callable[[], object] = _nothing
        """Called with each table that is sent to somebody."""
        self.on_acked: Callable[[float], object] = _nothing
        """Called with the seconds from a table's publication to somebody's acknowledgement of it."""
        self._published_at = self._loop.time()
        self._encoded = b""
        self.table = RoutingTable(version=first_version)
        self._settling = self._loop.call_later(SETTLE_S + 0.001, self._check) if is_restart else None

    # ---- tables -----------------------------------------------------------------------------------------------

    def publish(self, table: RoutingTable) -> bool:
        """Sends `table` as the next version, if it says something new."""
        same = msgspec.structs.replace(table, version=self.table.version)
        if same == self.table and self._encoded:
            return False
        self.table = msgspec.structs.replace(table, version=self.table.version + 1)
        self._encoded = encode_table(self.table)
        self._published_at = self._loop.time()
        for subscriber in self._subscribers.values():
            self._push(subscriber)
        return True

    def _push(self, subscriber: _Subscriber) -> None:
        """Sends the newest table; a subscriber that does not read gets it when it does, and none between."""
        if subscriber.sent < self.table.version and self._encoded and subscriber.incoming.writable:
            subscriber.sent = self.table.version
            subscriber.incoming.send(self._encoded)
            self.on_push()

    # ---- subscribers ------------------------------------------------------------------------------------------

    async def follow(self, name: str, incoming: Incoming) -> None:
        """Serves one subscriber until the calling task is cancelled, that is until the subscriber has gone."""
        subscriber = _Subscriber(incoming)
        self._subscribers[name] = subscriber
        incoming.on_writable = lambda: self._push(subscriber)
        self._push(subscriber)
        try:
            await self._loop.create_future()
        finally:
            if self._subscribers.get(name) is subscriber:
                del self._subscribers[name]
            self._check()

    def ack(self, name: str, version: int) -> None:
        subscriber = self._subscribers.get(name)
        if subscriber is not None and version > subscriber.acked:
            subscriber.acked = version
            if version == self.table.version:
                self.on_acked(self._loop.time() - self._published_at)
            self._check()

    @property
    def followers(self) -> int:
        """How many subscribers are connected."""
        return len(self._subscribers)

    def is_followed_by(self, name: str) -> bool:
        """Whether this subscriber is connected."""
        return name in self._subscribers

    # ---- who knows what ---------------------------------------------------------------------------------------

    def await_unlisted(self, refs: Iterable[str]) -> None:
        """Begins to wait for those refs, which the present table does not list; known ones are left alone."""
        for ref in refs:
            if ref not in self._leaving:
                timer = self._loop.call_later(ACK_TIMEOUT_S, self._give_up, ref)
                self._leaving[ref] = (self.table.version, timer)
        self._check()

    async def wait_known(self, version: int) -> None:
        """Returns once all subscribers route by `version` or a later one, or have been silent for too long."""
        if self._least_acked() >= version:
            return
        known = self._loop.create_future()
        self._waiting.append((version, known))
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await known
        except TimeoutError:
            logger.warning("some subscribers have not acknowledged routing table %d", version)
        finally:
            self._waiting = [(at, other) for at, other in self._waiting if other is not known]

    def _least_acked(self) -> int:
        return min((one.acked for one in self._subscribers.values()), default=self.table.version)

    def _check(self) -> None:
        acked = self._least_acked()
        for version, known in self._waiting:
            if acked >= version and not known.done():
                known.set_result(None)
        if self._loop.time() < self._settled_at:
            return
        for ref, (version, timer) in list(self._leaving.items()):
            if acked >= version:
                timer.cancel()
                del self._leaving[ref]
                self._on_unlisted(ref)

    def _give_up(self, ref: str) -> None:
        version, _ = self._leaving.pop(ref)
        late = [name for name, one in self._subscribers.items() if one.acked < version]
        logger.warning("%s is drained although %s did not acknowledge its leaving", ref, ", ".join(late))
        self._on_unlisted(ref)

    def close(self) -> None:
        for _, timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()
        if self._settling is not None:
            self._settling.cancel()
