"""Notices replicas whose loop does not turn, and lets requests go round them while others answer.

A replica that has calls of ours is pinged twice a second. The pong comes from the loop that runs user code, so code
that blocks that loop or holds the GIL is noticed within a second, from outside, and without any work per request. Such
a replica is busy, not dead: it keeps its calls and its connection, and gets new ones as soon as it answers. When no
replica of a deployment answers, none is avoided: waiting there is as good as waiting here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from eagleray.routing.pool import Pool
from eagleray.routing.target import Target

logger = logging.getLogger("eagleray.routing")

PERIOD_S = 0.5
"""Between two looks; a ping that has not been answered by the next look makes its replica busy."""

_LATE_S = 0.1
"""A look that comes so much too late judges nobody: the pongs may be here already, and not yet read."""


class Pulse:
    """Of one router, on whose loop it lives. Nothing runs while none of its `pools` has a choice."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._asked: dict[Target, asyncio.Future[None]] = {}

    def watch(self) -> None:
        """Pools or their targets have changed. Idempotent."""
        if self._timer is None and any(len(pool.targets) > 1 for pool in self._pools.values()):
            loop = asyncio.get_running_loop()
            self._due_at = loop.time() + PERIOD_S
            self._timer = loop.call_at(self._due_at, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        is_late = asyncio.get_running_loop().time() - self._due_at > _LATE_S
        for pool in self._pools.values():
            if not is_late:
                self._judge(pool)
            if len(pool.targets) > 1:
                for target in pool.targets:
                    if (target.in_flight or target.is_busy) and target not in self._asked:
                        self._ask(target)
        self.watch()

    def _ask(self, target: Target) -> None:
        client = target.client
        if client is not None and not client.closed:
            self._asked[target] = answer = client.probe()
            answer.add_done_callback(lambda answered: self._answered(target, answered))

    def _answered(self, target: Target, answered: asyncio.Future[None]) -> None:
        del self._asked[target]
        if answered.exception() is None and target.is_busy:
            logger.info("Replica %s answers again.", target.entry.replica_id)
        if target.is_busy:
            target.set_busy(False)
            target.pool.wake()

    def _judge(self, pool: Pool) -> None:
        silent = [target for target in pool.targets if target in self._asked]
        has_choice = any(t.client is not None and t.cap != 0 for t in pool.targets if t not in self._asked)
        for target in silent:
            if has_choice and not target.is_busy:
                logger.info(
                    "Replica %s of %s has not answered for %g s: requests go round it.",
                    *(target.entry.replica_id, pool.key, PERIOD_S),
                )
            if target.is_busy != has_choice:
                target.set_busy(has_choice)
        if silent and not has_choice:
            pool.wake()
