"""The ordered end that SIGTERM asks for: clients are told first, and after a delay everything drains.

The delay is for load balancers, which look at readiness now and then only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eagleray.base.tasks import Tasks
from eagleray.reconcile.events import DrainBegun, Event, LeavingBegun

logger = logging.getLogger("eagleray.controller")


class Departure:
    """Begins at most once. `post` takes events."""

    def __init__(self, delay_s: float, post: Callable[[Event], None]) -> None:
        self._delay_s = delay_s
        self._post = post
        self._tasks = Tasks("departure")
        self._has_begun = False

    def begin(self) -> None:
        """Readiness flips now."""
        if not self._has_begun:
            self._has_begun = True
            logger.info("this instance is no longer ready, and drains in %g s", self._delay_s)
            self._post(LeavingBegun())
            self._tasks.start(self._drain(), name="drain the instance")

    async def _drain(self) -> None:
        await asyncio.sleep(max(self._delay_s, 0.0))
        self._post(DrainBegun())

    async def close(self) -> None:
        await self._tasks.close()
