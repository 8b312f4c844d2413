"""A replica's wish to be replaced, by its own code or because it has taken as many requests as it may.

The wish goes to the controller at once; should it get lost there, the next health check repeats it. Nothing else
changes: the replica serves until it is drained.
"""

from __future__ import annotations

import logging

from eagleray.replica.slots import CountedSlots, Slots
from eagleray.serve.runtime import Runtime
from eagleray.wire.control import Empty, ReplicaLaunch
from eagleray.wire.recycling import Expire

logger = logging.getLogger("ray.serve")


class Recycling:
    """`expired` is empty, or why this replica has asked for a successor. `runtime` carries the wish once it is set."""

    def __init__(self, launch: ReplicaLaunch) -> None:
        self.expired = ""
        self.runtime: Runtime | None = None
        self._launch = launch

    def slots(self) -> Slots:
        """Slots that are counted only where there is a limit to requests."""
        launch = self._launch
        if not launch.max_requests:
            return Slots(launch.max_ongoing_requests)
        return CountedSlots(launch.max_ongoing_requests, launch.max_requests, self._on_spent)

    def _on_spent(self) -> None:
        self.expire(f"it has taken {self._launch.max_requests} requests")

    def expire(self, reason: str) -> None:
        """Asks for a successor, once. From any thread."""
        runtime = self.runtime
        if self.expired or runtime is None or runtime.in_process:
            return
        self.expired = reason
        logger.info("This replica asks to be replaced: %s.", reason)
        runtime.request("expire", Expire(replica_id=self._launch.replica_id, reason=reason), Empty)
