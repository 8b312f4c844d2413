"""What the user's `record_autoscaling_stats` says: numbers by name, for autoscaling policies."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any

from eagleray.base.errors import EaglerayError
from eagleray.base.metrics import Registry
from eagleray.base.threads import run_in_new_thread
from eagleray.replica.call import Floor
from eagleray.replica.errors import trimmed_text
from eagleray.replica.metrics import REPLICA_LABELS
from eagleray.replica.user_loop import UserLoop
from eagleray.wire.scaling import LoadStats


class StatsHook:
    """Asks the hook on the user's loop, a sync one on a thread; none at all has nothing to say."""

    def __init__(self, registry: Registry, labels: tuple[str, str, str]) -> None:
        """`labels` are those of `ReplicaMetrics`."""
        self._is_asked = False
        self._labels = labels
        self._failures = registry.counter(
            "serve_record_autoscaling_stats_failed",
            "Times that `record_autoscaling_stats` has failed.",
            *REPLICA_LABELS,
            "exception_name",
        )
        self._latency = registry.histogram(
            "serve_user_autoscaling_stats_latency_ms",
            "Time in `record_autoscaling_stats`, in milliseconds.",
            *REPLICA_LABELS,
        )

    async def ask(self, user_loop: UserLoop, floor: Floor | None) -> LoadStats:
        """What it says now, or its traceback."""
        hook = getattr(floor.user.instance if floor is not None else None, "record_autoscaling_stats", None)
        if not callable(hook):
            return LoadStats()
        return await user_loop.run(self._call(hook))

    async def _call(self, hook: Callable[[], Any]) -> LoadStats:
        begun_at = monotonic()
        try:
            found = await hook() if inspect.iscoroutinefunction(hook) else await self._on_thread(hook)
            self._latency.distribution(*self._labels).observe((monotonic() - begun_at) * 1000.0)
            return LoadStats(values={str(name): float(value) for name, value in found.items()})
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # user code may raise anything
            self._failures.value(*self._labels, type(error).__name__).inc()
            return LoadStats(error=trimmed_text(error))

    async def _on_thread(self, hook: Callable[[], Any]) -> Any:
        """A thread cannot be ended: while one hangs, no other is begun."""
        if self._is_asked:
            raise EaglerayError("`record_autoscaling_stats` has not returned since it was called before.")
        self._is_asked = True

        def call() -> Any:
            try:
                return hook()
            finally:
                self._is_asked = False

        return await run_in_new_thread(call)
