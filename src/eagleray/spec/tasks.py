"""How tasks are queued and worked off: the options of task consumers. Names and defaults are Ray Serve's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from eagleray.spec.base import SpecModel

DEFAULT_ADAPTER = "ray.serve.task_processor.CeleryTaskProcessorAdapter"
"""Ray Serve's name; its home here is `eagleray.serve.task_processor`."""


class QueueOptions(SpecModel):
    """What all of our adapters take. Times are in seconds.

    A consumer that has not renewed its lease on a task for `visibility_timeout_s` is taken for dead.
    """

    visibility_timeout_s: float = Field(default=30.0, ge=0.1, le=86_400, allow_inf_nan=False)
    retry_backoff_s: float = Field(default=1.0, ge=0, le=3600, allow_inf_nan=False)
    retry_backoff_max_s: float = Field(default=60.0, ge=0, le=86_400, allow_inf_nan=False)
    result_expires_s: float = Field(default=86_400.0, gt=0, allow_inf_nan=False)


class SQLiteAdapterConfig(QueueOptions):
    """`path`: the file of the queue, by default `tasks.db` in Eagleray's state directory."""

    path: str | None = None


class MemoryAdapterConfig(QueueOptions):
    """A queue in the memory of one process: for tests and local testing mode."""


class RedisAdapterConfig(QueueOptions):
    """`url` such as `redis://:password@host:6379/0`; `rediss://` for TLS. Keys begin with `key_prefix`."""

    url: str
    key_prefix: str = Field(default="eagleray:tasks", min_length=1)


class CeleryAdapterConfig(QueueOptions):
    """Ray Serve's options of its Celery adapter, and those of all of ours; `broker_url` names the queue.

    Of the others `visibility_timeout` in `broker_transport_options` counts, in seconds.
    """

    broker_url: str
    backend_url: str | None = None
    app_custom_config: dict[str, Any] | None = None
    task_custom_config: dict[str, Any] | None = None
    broker_transport_options: dict[str, Any] | None = None


class TaskProcessorConfig(SpecModel):
    """A queue and what works it off. `adapter` is a subclass of TaskProcessorAdapter or its import path.

    `max_retries`: attempts after the first; None means without end. A task that has failed for good is copied to
    `failed_task_queue_name`, one that no consumer can process to `unprocessable_task_queue_name`.
    """

    queue_name: str = Field(min_length=1)
    adapter: Any = DEFAULT_ADAPTER
    adapter_config: Any = None
    max_retries: int | None = Field(default=3, ge=0)
    failed_task_queue_name: str | None = Field(default=None, min_length=1)
    unprocessable_task_queue_name: str | None = Field(default=None, min_length=1)

    @field_validator("adapter")
    @classmethod
    def _check_adapter(cls, value: Any) -> Any:
        if not isinstance(value, str) and not callable(value):
            raise ValueError(f"adapter must be an adapter class or its import path, got {value!r}")
        return value


class TaskResult(BaseModel):
    """A task as it is now. `created_at`: wall time in seconds; `result`: what it returned, or why it failed."""

    id: str
    status: str
    created_at: float | None = None
    result: Any = None
