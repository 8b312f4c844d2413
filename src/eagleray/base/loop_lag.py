"""How late an event loop is: the series that Ray Serve has of each of its loops.

Measured on timers that run anyway. What measures changes nothing while the process is idle, unless the loop was late
enough to be worth a message.
"""

from __future__ import annotations

import asyncio

from eagleray.base.metrics import LATENCY_MS, Registry

WORTH_TELLING_MS = 20.0
"""An idle loop that is later than this is told of; less is the noise of a machine."""


class LoopLag:
    """The series of one loop; `note` is called on it. `tags` are a replica's deployment and application."""

    def __init__(
        self,
        registry: Registry,
        component: str,
        loop_type: str,
        actor_id: str,
        tags: tuple[tuple[str, str], ...] = (),
    ) -> None:
        names = ("component", "loop_type", "actor_id", *(name for name, _ in tags))
        values = (component, loop_type, actor_id, *(value for _, value in tags))
        self._latency = registry.histogram(
            "serve_event_loop_scheduling_latency_ms",
            "How late an event loop runs what is due, in milliseconds.",
            *names,
            bounds=LATENCY_MS,
        ).distribution(*values)
        self._iterations = registry.counter(
            "serve_event_loop_monitoring_iterations", "How often that was measured.", *names
        ).value(*values)
        self._tasks = registry.gauge("serve_event_loop_tasks", "Tasks on an event loop.", *names).value(
            *values
        )

    def note(self, late_ms: float, is_busy: bool = True) -> None:
        """`is_busy`: something else has changed as well, so that a message is sent anyway."""
        if is_busy or late_ms >= WORTH_TELLING_MS:
            self._latency.observe(late_ms)
            self._iterations.value += 1
            self._tasks.value = len(asyncio.all_tasks())
