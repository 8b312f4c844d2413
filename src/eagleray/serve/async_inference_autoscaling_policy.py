"""The autoscaling policy of task consumers: as many replicas as the tasks that wait and run keep busy.

It runs in the process of the application's policies, as users' policies do, and asks the store itself.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from eagleray.base.errors import ConfigError

if TYPE_CHECKING:
    from eagleray.serve.autoscaling_policy import AutoscalingContext

__all__ = ["AsyncInferenceAutoscalingPolicy"]


class AsyncInferenceAutoscalingPolicy:
    """Tasks in `queue_name` over `target_ongoing_requests`. `broker_url` as for CeleryAdapterConfig; `sqlite://` is the
    default file. The store is asked every `poll_interval_s` at most. ConfigError for a broker that is none of ours.
    """

    def __init__(
        self,
        broker_url: str,
        queue_name: str,
        rabbitmq_management_url: str | None = None,
        poll_interval_s: float = 10.0,
    ) -> None:
        from eagleray.serve.task_processor import open_queue, options_for  # only who scales by tasks loads it

        if rabbitmq_management_url is not None:
            raise ConfigError(
                "rabbitmq_management_url: there is no queue on RabbitMQ here; give a broker_url of Redis or SQLite."
            )
        self._store = open_queue(options_for(broker_url))
        self._queue = queue_name
        self._interval_s = poll_interval_s
        self._asked_at: float | None = None
        self._tasks = 0

    def __call__(self, ctx: AutoscalingContext) -> float:
        now = monotonic()
        if self._asked_at is None or now - self._asked_at >= self._interval_s:
            counts = self._store.counts(self._queue)
            self._tasks = counts.waiting + counts.running
            self._asked_at = now
        return self._tasks / ctx.config.target_ongoing_requests
