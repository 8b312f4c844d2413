"""Tells the controller what this process has counted: one streaming call, at most one message a second.

Whoever calls last is told, first everything and then what has changed; a reader that does not read is sent nothing, and
the newest totals when it reads again. Where nothing has changed for a while it naps: then one looks every ten seconds
only, because a hundred idle replicas share a machine, and a request ends the nap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eagleray.base.metrics import GAUGE, Registry, Snapshot
from eagleray.rpc.server import Incoming
from eagleray.wire.control import encode
from eagleray.wire.metrics import Shipment

INTERVAL_S = 1.0
"""Between two messages."""

NAP_S = 10.0
"""Between two looks while nothing happens; of the order of health checks, which wake the process anyway."""

_QUIET = 3
"""Looks without news before a nap."""

_OF_LOOKING = "serve_event_loop_"
"""Series that change because somebody looks: they are told, and are no reason to look again soon."""


def _is_news(snapshot: Snapshot) -> bool:
    """What was counted. Gauges move by themselves, for example because a window of time goes on."""
    return snapshot.kind != GAUGE and not snapshot.name.startswith(_OF_LOOKING)


OnLook = Callable[[float, bool], object]
"""Gets by how many seconds the loop was late for this look, and whether anything has been counted since the last."""


class MetricsFeed:
    """Belongs to the loop that `follow` runs on; `wake` may be called from any thread.

    `naps`: someone calls `wake` when `asleep` and something happens.
    """

    def __init__(self, registry: Registry, *, naps: bool = False, on_look: OnLook | None = None) -> None:
        self.asleep = False
        self._registry = registry
        self._naps = naps
        self._on_look = on_look
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: Incoming | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._everything = False
        self._quiet = 0

    async def follow(self, payload: bytes, incoming: Incoming) -> None:
        """The control method `metrics`: serves this reader until the calling task is cancelled."""
        self._loop = loop = asyncio.get_running_loop()
        self._reader = incoming
        self._everything = True
        incoming.on_writable = self.flush
        self._look(0.0)
        try:
            await loop.create_future()
        finally:
            if self._reader is incoming:
                self._reader = None
                self._disarm()

    @property
    def is_held_back(self) -> bool:
        """Whether the reader does not read, so that nothing is sent."""
        return self._reader is not None and not self._reader.writable

    def wake(self) -> None:
        """Something happens in a process that napped."""
        if self.asleep and self._loop is not None:
            self.asleep = False
            try:
                self._loop.call_soon_threadsafe(self._get_up)
            except RuntimeError:
                pass  # the loop was closed: the process ends

    def flush(self) -> None:
        """Tells now what has changed, for example before the process ends."""
        if self._reader is not None:
            self._look(0.0)

    def _get_up(self) -> None:
        self._quiet = 0
        if self._reader is not None:
            self._arm(INTERVAL_S)

    def _look(self, late_s: float) -> None:
        reader = self._reader
        if reader is None:
            return
        if not reader.writable:
            self._disarm()  # until it is
            return
        # Before anything is read, so that who counts meanwhile wakes us.
        self.asleep = self._naps and self._quiet >= _QUIET
        snapshots = self._registry.collect(everything=self._everything)
        if snapshots:
            reader.send(encode(Shipment(snapshots=snapshots, is_whole=self._everything)))
        self._everything = False
        is_news = any(_is_news(one) for one in snapshots)
        if is_news:
            self.asleep = False
        self._quiet = 0 if is_news else self._quiet + 1
        if self._on_look is not None:
            self._on_look(late_s, is_news)
        self._arm(NAP_S if self.asleep else INTERVAL_S)

    def _arm(self, delay_s: float) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        self._timer = loop.call_at(due, self._on_time, due)

    def _on_time(self, due: float) -> None:
        self._timer = None
        self._look(max(asyncio.get_running_loop().time() - due, 0.0))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
