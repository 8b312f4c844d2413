"""Drops pools whose deployment has left the routing table, so that a router does not grow with what has ever been.

A pool goes when no table has named its deployment for a minute and nothing waits or runs there. Until then it stays:
an application that is redeployed soon goes on counting, and the last counts have been told. One that is used again
afterwards is opened anew. Nothing runs while the table names all pools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eagleray.base.errors import DeploymentUnavailableError
from eagleray.base.ids import DeploymentID
from eagleray.routing.pool import Pool
from eagleray.routing.waiting import LATE_S, After, Timer

FORGET_S = 60.0
"""Seconds that an unused pool stays after its deployment has left the table."""


class Forgetting:
    """Of one router, on whose loop it lives. `drop` takes the pool of a key out of `pools`, before it is closed."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        drop: Callable[[str], object],
        after: After,
        clock: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._drop = drop
        self._after = after
        self._clock = clock
        self._timer: Timer | None = None
        self._since: dict[str, float] = {}

    def watch(self) -> None:
        """Pools or the table have changed. Idempotent."""
        now, known = self._clock(), self._since
        self._since = {key: known.get(key, now) for key, pool in self._pools.items() if pool.entry is None}
        if self._timer is None and self._since:
            delay_s = min(self._since.values()) + FORGET_S - now
            self._timer = self._after(max(0.0, delay_s) + LATE_S, self._look)

    def close(self) -> None:
        """Drops nothing any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._clock()
        for key, since in list(self._since.items()):
            pool = self._pools.get(key)
            if pool is None or pool.entry is not None:
                continue
            if pool.is_used:
                self._since[key] = now
            elif now - since >= FORGET_S:
                self._drop(key)
                pool.close(DeploymentUnavailableError(DeploymentID.parse(key), "it was deleted"))
                if pool.metrics is not None:
                    pool.metrics.forget()
        self.watch()
