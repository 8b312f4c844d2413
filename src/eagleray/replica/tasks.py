"""The task consumer of a replica: works off the queue that the class of the deployment names, beside its calls.

Handlers run in threads of the adapter, or on the user's loop when they are `async def`. Belongs to the user's loop,
apart from `stop`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any

from eagleray.base.ids import new_request_id
from eagleray.base.threads import run_in_new_thread
from eagleray.replica.errors import trimmed_text
from eagleray.serve import context
from eagleray.serve.metrics import Counter, Histogram
from eagleray.serve.task_consumer import config_of, handlers_of, instantiate_adapter_from_config
from eagleray.spec.tasks import TaskProcessorConfig
from eagleray.tasks.adapter import TaskProcessorAdapter
from eagleray.tasks.consumer import running_task

logger = logging.getLogger("ray.serve")

_BOUNDS_MS = [5.0, 10, 50, 100, 500, 1000, 5000, 10_000, 60_000, 300_000, 1_800_000]
"""Upper bounds: tasks are what takes too long for a request."""


class TaskConsumer:
    """Of one replica, idle unless its class has `@task_consumer`. `limit`: how many tasks it runs at once."""

    def __init__(self, limit: int, base: Context) -> None:
        self._limit = limit
        self._base = base
        self._adapter: TaskProcessorAdapter | None = None

    def begin(self, target: Any, instance: Any) -> str:
        """User code is up: tasks are taken from now on. Returns the error for the user, or ""."""
        config = config_of(target)
        if config is None:
            return ""
        try:
            self._begin(config, instance)
        except Exception as error:  # the root of adapters, which may be the user's
            return trimmed_text(error)
        return ""

    def _begin(self, config: TaskProcessorConfig, instance: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = _Metrics()
        adapter = instantiate_adapter_from_config(config)
        adapter.initialize(consumer_concurrency=self._limit)
        for name, method in handlers_of(instance).items():
            adapter.register_task_handle(self._handler(name, method), name)
        adapter.start_consumer()
        self._adapter = adapter

    def resize(self, limit: int | None) -> None:
        """An adapter that cannot stays as it is until the replica is replaced. From any thread."""
        resize = getattr(self._adapter, "resize", None)
        if limit is not None and limit != self._limit and callable(resize):
            self._limit = limit
            resize(limit)

    async def stop(self, timeout_s: float) -> None:
        """Takes no more tasks, and gives those that run `timeout_s`. On any loop; idempotent."""
        adapter, self._adapter = self._adapter, None
        if adapter is None:
            return
        try:
            await run_in_new_thread(_stop, adapter, timeout_s)
        except Exception:  # as in `begin`
            logger.exception("The task consumer did not stop in order.")

    async def stop_beside(self, calls_end: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """The same, while `calls_end` waits for the calls: they have the same time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.stop(timeout_s), name="replica: stop tasks")
            await calls_end

    def _handler(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """What the adapter calls, in a thread of its own."""
        run = self._await if inspect.iscoroutinefunction(method) else _run

        @functools.wraps(method)
        def handle(*args: Any, **kwargs: Any) -> Any:
            running = running_task.get()
            request_id = new_request_id() if running is None else running.claim.id
            within = self._base.copy()
            within.run(_set_request, request_id)
            begun_at, outcome = monotonic(), "error"
            try:
                result = run(within, method, args, kwargs)
                outcome = "success"
                return result
            finally:
                within.run(self._metrics.ended, name, outcome, monotonic() - begun_at)

        return handle

    def _await(self, within: Context, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        async def run() -> Any:
            return await method(*args, **kwargs)

        future = within.run(asyncio.run_coroutine_threadsafe, run(), self._loop)
        running = running_task.get()
        if running is not None:
            running.interrupt = future.cancel
        return future.result()


def _stop(adapter: TaskProcessorAdapter, timeout_s: float) -> None:
    """Blocks until it has stopped; then gives back the connection of an adapter that has one."""
    adapter.stop_consumer(timeout=timeout_s)
    close = getattr(adapter, "close", None)
    if callable(close):
        close()


class _Metrics:
    """Counted as user code would count: the replica's labels are added, any thread may."""

    def __init__(self) -> None:
        self._tasks = Counter("eagleray_tasks", "Runs of task handlers.", ("task", "outcome"))
        self._latency = Histogram(
            "eagleray_task_latency_ms", "Time in task handlers, in milliseconds.", _BOUNDS_MS, ("task",)
        )

    def ended(self, name: str, outcome: str, took_s: float) -> None:
        self._tasks.inc(tags={"task": name, "outcome": outcome})
        self._latency.observe(took_s * 1000.0, tags={"task": name})


def _run(within: Context, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return within.run(method, *args, **kwargs)


def _set_request(request_id: str) -> None:
    """Log lines and handle calls of the handler have a request id."""
    request = context.RequestContext(request_id, app_name=context.get_replica_context().app_name)
    context._serve_request_context.set(request)
