"""Children that are asked for one thing and end: builders, makers of environments. None outlives who asks."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from eagleray.base.tasks import Tasks
from eagleray.controller.observer import Observer
from eagleray.engine.base import EngineError
from eagleray.wire.control import Exited

logger = logging.getLogger("eagleray.controller")


class PassingChildren:
    """Watches over them; who asks starts and dials them."""

    def __init__(self, observer: Observer, tasks: Tasks) -> None:
        self._observer = observer
        self._tasks = tasks

    @contextmanager
    def one(self, ref: str) -> Iterator[asyncio.Future[Exited]]:
        """Gives its exit. At the end of the block it is let go, and killed if it has not ended."""
        with self._observer.exit_of(ref) as exited:
            try:
                yield exited
            finally:
                self._observer.drop(ref)
                if not exited.done():
                    self._tasks.start(self._kill(ref), name=f"kill {ref}")

    async def _kill(self, ref: str) -> None:
        try:
            await self._observer.stop(ref, signal.SIGKILL)
        except EngineError as error:
            logger.warning("%s could not be ended: %s", ref, error.reason)
