"""How late the two loops of a replica are. The user's is asked by the other, which user code cannot block."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from eagleray.base.loop_lag import LoopLag
from eagleray.base.metrics import Registry
from eagleray.wire.control import ReplicaLaunch


class ReplicaLag:
    """`post` hands a function over to the user's loop; until it is there that loop is not measured."""

    def __init__(self, registry: Registry, launch: ReplicaLaunch) -> None:
        tags = (("deployment", launch.deployment), ("application", launch.app))
        ref = launch.replica_id
        self._main = LoopLag(registry, "replica", "main", ref, tags)
        self._user = LoopLag(registry, "replica", "user_code", ref, tags)
        self._is_asking = False
        self.post: Callable[[Callable[[float], object], float], object] | None = None

    def on_look(self, late_s: float, is_busy: bool) -> None:
        """For the feed, on the control loop."""
        self._main.note(late_s * 1000.0, is_busy)
        if is_busy and self.post is not None and not self._is_asking:
            self._is_asking = True
            self.post(self._arrived, monotonic())

    def _arrived(self, asked_at: float) -> None:
        """On the user's loop."""
        self._is_asking = False
        self._user.note((monotonic() - asked_at) * 1000.0)
