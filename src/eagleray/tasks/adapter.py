"""The interface between task consumers and a broker, Ray Serve's; and the adapter on our own queues.

Others implement the interface for brokers of theirs: what it asks for is fixed. `start_consumer` returns at once, the
consumer works in threads of its own. Handlers are plain functions that block.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import uuid4

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import ConfigError, EaglerayError
from eagleray.spec.tasks import QueueOptions, TaskProcessorConfig, TaskResult
from eagleray.tasks.consumer import Consumer, Handler, Rules
from eagleray.tasks.queue import TaskQueue
from eagleray.tasks.record import NewTask, TaskNotFoundError, TaskState, encode_arguments

DEFAULT_CONSUMER_CONCURRENCY = 8

MOST_COUNTDOWN_S = 1e9
"""Thirty years: a bigger delay is a mistake, and not every store can count it."""


class TaskProcessorAdapter(ABC):
    """A broker as producers and consumers of one queue see it. Made with the TaskProcessorConfig.

    Producers use it as it is made. A consumer calls `initialize`, `register_task_handle` for each handler, and
    `start_consumer`; at its end `stop_consumer`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: B027 - so that subclasses may call it
        """A subclass is called with the TaskProcessorConfig."""

    @abstractmethod
    def initialize(self, consumer_concurrency: int = DEFAULT_CONSUMER_CONCURRENCY) -> None:
        """Prepares for consuming, that many tasks at once."""

    @abstractmethod
    def register_task_handle(self, func: Callable[..., Any], name: str | None = None) -> None:
        """Tasks of this name are run by `func`; by default the function's own name."""

    @abstractmethod
    def enqueue_task_sync(
        self, task_name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> TaskResult:
        """Puts a task into the queue; when this returns the broker has it."""

    @abstractmethod
    def get_task_status_sync(self, task_id: str) -> TaskResult:
        """The task as it is now."""

    @abstractmethod
    def start_consumer(self, **kwargs: Any) -> None:
        """Begins to take tasks. Returns at once."""

    @abstractmethod
    def stop_consumer(self, timeout: float = 10.0) -> None:
        """Takes no more tasks, and waits for those that run for `timeout` seconds."""

    @abstractmethod
    def cancel_task_sync(self, task_id: str) -> Any:
        """Revokes a task that has not ended."""

    @abstractmethod
    def get_metrics_sync(self) -> dict[str, Any]:
        """Numbers of the queue, by name."""

    @abstractmethod
    def health_check_sync(self) -> Any:
        """Whether the broker and its consumers answer. Raises when they do not."""

    async def initialize_async(self, consumer_concurrency: int = DEFAULT_CONSUMER_CONCURRENCY) -> None:
        self._no_async("initialize_async")

    async def enqueue_task_async(
        self, task_name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> TaskResult:
        self._no_async("enqueue_task_async")

    async def get_task_status_async(self, task_id: str) -> TaskResult:
        self._no_async("get_task_status_async")

    async def cancel_task_async(self, task_id: str) -> Any:
        self._no_async("cancel_task_async")

    async def get_metrics_async(self) -> dict[str, Any]:
        self._no_async("get_metrics_async")

    async def health_check_async(self) -> Any:
        self._no_async("health_check_async")

    def _no_async(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} has no '{name}': use '{name.replace('_async', '_sync')}' in a thread, for "
            f"instance by asyncio.to_thread."
        )


class QueueTaskProcessorAdapter(TaskProcessorAdapter):
    """The interface on a TaskQueue. Subclasses say which, by `_open`. May be used from any thread."""

    def __init__(self, config: TaskProcessorConfig) -> None:
        self._config = config
        self._options = self._read_options(config.adapter_config)
        self._store = self._open()
        self._handlers: dict[str, Handler] = {}
        self._concurrency = DEFAULT_CONSUMER_CONCURRENCY
        self._consumer: Consumer | None = None

    @property
    def options(self) -> QueueOptions:
        """How its tasks are queued, defaults filled in."""
        return self._options

    def _read_options(self, given: Any) -> QueueOptions:
        raise NotImplementedError

    def _open(self) -> TaskQueue:
        raise NotImplementedError

    def initialize(self, consumer_concurrency: int = DEFAULT_CONSUMER_CONCURRENCY) -> None:
        self._concurrency = consumer_concurrency

    def register_task_handle(self, func: Callable[..., Any], name: str | None = None) -> None:
        if self._consumer is not None:
            raise EaglerayError("Task handlers are registered before the consumer is started.")
        self._handlers[name or func.__name__] = func

    def enqueue_task_sync(
        self, task_name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> TaskResult:
        """`options`: `task_id` (one that exists already adds nothing), `countdown` (seconds before it may begin) and
        `queue` (another queue of the same store). ConfigError for others, and for arguments that are no JSON.
        """
        if not isinstance(task_name, str) or not task_name.strip():
            raise ConfigError(f"A task needs a name, got {task_name!r}.")
        if not _is_utf8(task_name):
            raise ConfigError(f"A task's name must be valid Unicode, got {task_name!r}.")
        task_id, countdown, queue = _read_put_options(task_name, options)
        payload = encode_arguments(task_name, args, kwargs)
        task = NewTask(task_id or uuid4().hex, task_name, payload, wall_time_s(), countdown)
        self._store.put(queue or self._config.queue_name, task)
        return self.get_task_status_sync(task.id)

    def get_task_status_sync(self, task_id: str) -> TaskResult:
        """`status` is PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED; TaskNotFoundError for an unknown id."""
        return _result_of(self._known(task_id))

    def _known(self, task_id: str) -> TaskState:
        found = self._store.find(task_id) if _is_utf8(task_id) else None
        if found is None:
            raise TaskNotFoundError(
                f"There is no task '{task_id}' beside queue '{self._config.queue_name}': it was never put there, or it "
                f"ended more than {self._options.result_expires_s:g} s ago."
            )
        return found

    def start_consumer(self, **kwargs: Any) -> None:
        if self._consumer is not None:
            raise EaglerayError(
                f"The consumer of queue '{self._config.queue_name}' has been started already."
            )
        config, options = self._config, self._options
        rules = Rules(
            queue=config.queue_name,
            concurrency=self._concurrency,
            max_retries=config.max_retries,
            failed_queue=config.failed_task_queue_name,
            unprocessable_queue=config.unprocessable_task_queue_name,
            lease_s=options.visibility_timeout_s,
            first_delay_s=options.retry_backoff_s,
            most_delay_s=options.retry_backoff_max_s,
            keep_results_s=options.result_expires_s,
        )
        self._consumer = Consumer(self._store, rules, self._handlers)
        self._consumer.start()

    def stop_consumer(self, timeout: float = 10.0) -> None:
        """Tasks that still run afterwards are given back to the queue. Idempotent."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.stop(timeout)

    def cancel_task_sync(self, task_id: str) -> bool:
        """Whether it was revoked; False when it had ended. TaskNotFoundError for an unknown id.

        One that has begun runs on unless its handler is `async def`; its result is dropped.
        """
        self._known(task_id)
        return self._store.cancel(task_id)

    def get_metrics_sync(self) -> dict[str, Any]:
        """How many tasks wait, run, and wait for their time to come; and the sizes of the queues of failures."""
        config = self._config
        counts = self._store.counts(config.queue_name)
        told = {
            "queue_name": config.queue_name,
            "waiting": counts.waiting,
            "running": counts.running,
            "delayed": counts.delayed,
            "running_here": 0 if self._consumer is None else self._consumer.ongoing,
        }
        for key, queue in (
            ("failed", config.failed_task_queue_name),
            ("unprocessable", config.unprocessable_task_queue_name),
        ):
            if queue is not None:
                told[key] = self._store.counts(queue).waiting
        return told

    def health_check_sync(self) -> list[dict[str, Any]]:
        """One entry that says "ok"; TaskQueueError when the store does not answer."""
        self._store.counts(self._config.queue_name)
        return [{"queue_name": self._config.queue_name, "status": "ok"}]

    def resize(self, consumer_concurrency: int) -> None:
        """As many tasks at once from now on; those that run go on."""
        self._concurrency = consumer_concurrency
        if self._consumer is not None:
            self._consumer.resize(consumer_concurrency)

    def close(self) -> None:
        """Gives back the connection. The adapter cannot be used afterwards."""
        self.stop_consumer(0.0)
        self._store.close()


def _read_put_options(task_name: str, options: dict[str, Any]) -> tuple[str, float, str]:
    """Id, delay in seconds and queue; "" and 0.0 where none is given. A store would take less, and say so worse."""
    given: dict[str, Any] = {"task_id": None, "countdown": None, "queue": None}
    if unknown := sorted(options.keys() - given.keys()):
        raise ConfigError(
            f"Task '{task_name}': unknown options {', '.join(unknown)}; there are task_id, countdown and queue."
        )
    given.update(options)
    for name in ("task_id", "queue"):
        if given[name] is not None and not (isinstance(given[name], str) and _is_utf8(given[name])):
            raise ConfigError(
                f"Task '{task_name}': {name} must be a text, of valid Unicode, got {given[name]!r}."
            )
    delay = given["countdown"]
    if delay is None:
        delay = 0.0
    is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
    if not is_number or not -MOST_COUNTDOWN_S <= delay <= MOST_COUNTDOWN_S:
        raise ConfigError(
            f"Task '{task_name}': countdown must be a number of seconds, at most {MOST_COUNTDOWN_S:g}, got {delay!r}."
        )
    return given["task_id"] or "", max(float(delay), 0.0), given["queue"] or ""


def _is_utf8(text: Any) -> bool:
    """False for a half of a surrogate pair, which JSON of anybody may hold and no store takes."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return False
    return True


def _result_of(state: TaskState) -> TaskResult:
    result = None if state.result is None else json.loads(state.result)
    return TaskResult(id=state.id, status=state.status, created_at=state.created_at, result=result)
