"""Adapters of task consumers under their familiar path: on SQLite, on Redis, in memory, and Ray Serve's default name.

All of them queue in Eagleray's own format. Celery's name is kept because programs have it: it chooses the queue by its
broker's URL. No Celery runs, and Celery's own workers and producers do not see these tasks.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings, state_home
from eagleray.spec.tasks import (
    CeleryAdapterConfig,
    MemoryAdapterConfig,
    QueueOptions,
    RedisAdapterConfig,
    SQLiteAdapterConfig,
)
from eagleray.tasks.adapter import QueueTaskProcessorAdapter, TaskProcessorAdapter
from eagleray.tasks.queue import TaskQueue

__all__ = [
    "CeleryTaskProcessorAdapter",
    "MemoryTaskProcessorAdapter",
    "RedisTaskProcessorAdapter",
    "SQLiteTaskProcessorAdapter",
    "TaskProcessorAdapter",
]

M = TypeVar("M", bound=BaseModel)


class SQLiteTaskProcessorAdapter(QueueTaskProcessorAdapter):
    """Tasks in a file that the processes of this machine share. `adapter_config`: SQLiteAdapterConfig, a dict, None."""

    def _read_options(self, given: Any) -> QueueOptions:
        return _read(SQLiteAdapterConfig, given)

    def _open(self) -> TaskQueue:
        return open_queue(self._options)


class MemoryTaskProcessorAdapter(QueueTaskProcessorAdapter):
    """Tasks in the memory of this process, so producer and consumer must share it: tests, and local testing mode."""

    def _read_options(self, given: Any) -> QueueOptions:
        return _read(MemoryAdapterConfig, given)

    def _open(self) -> TaskQueue:
        return open_queue(self._options)


class RedisTaskProcessorAdapter(QueueTaskProcessorAdapter):
    """Tasks in Redis, as durable as its configuration makes it. `adapter_config`: RedisAdapterConfig or a dict."""

    def _read_options(self, given: Any) -> QueueOptions:
        return _read(RedisAdapterConfig, given)

    def _open(self) -> TaskQueue:
        return open_queue(self._options)


class CeleryTaskProcessorAdapter(QueueTaskProcessorAdapter):
    """Ray Serve's default. `broker_url` says which queue it is: `redis://...`, `sqlite:////a/path.db`, `memory://`.

    `adapter_config` is a CeleryAdapterConfig or a dict; without one, it is the SQLite queue. Results are kept beside
    the tasks: `backend_url` is not used. ConfigError for other brokers.
    """

    def _read_options(self, given: Any) -> QueueOptions:
        if given is None:
            return SQLiteAdapterConfig()
        if isinstance(given, QueueOptions) and not isinstance(given, CeleryAdapterConfig):
            return given
        celery = _read(CeleryAdapterConfig, given)
        common = {
            name: getattr(celery, name)
            for name in QueueOptions.model_fields
            if name in celery.model_fields_set
        }
        transport = celery.broker_transport_options or {}
        if "visibility_timeout" in transport:
            common.setdefault("visibility_timeout_s", transport["visibility_timeout"])
        return options_for(celery.broker_url, **common)

    def _open(self) -> TaskQueue:
        return open_queue(self._options)


def options_for(broker_url: str, **times: Any) -> QueueOptions:
    """The queue that a broker's URL names, with `times` of QueueOptions. ConfigError for a broker none of ours."""
    url = urlsplit(broker_url)
    if url.scheme in ("redis", "rediss", "unix"):
        return RedisAdapterConfig(url=broker_url, **times)
    if url.scheme in ("sqlite", "sqla+sqlite"):
        return SQLiteAdapterConfig(path=url.path.removeprefix("/") or None, **times)
    if url.scheme == "memory":
        return MemoryAdapterConfig(**times)
    raise ConfigError(
        f"No task queue for a broker of kind '{url.scheme or broker_url}': there are redis://host:6379/0, "
        "sqlite:////path/of/tasks.db and memory://. For another broker give a TaskProcessorAdapter of your own."
    )


def open_queue(options: QueueOptions) -> TaskQueue:
    """The store of these options, opened; the caller closes it. Raises TaskQueueError or ConfigError."""
    if isinstance(options, RedisAdapterConfig):
        from eagleray.tasks.redis import RedisTaskQueue  # an extra: only who uses it needs the client

        return RedisTaskQueue(options.url, options.key_prefix, options.result_expires_s)
    from eagleray.tasks import sqlite  # nobody else loads SQLite into a replica

    if isinstance(options, MemoryAdapterConfig):
        return sqlite.memory_queue()
    assert isinstance(options, SQLiteAdapterConfig)
    path = options.path
    if path is None:
        home = state_home(Settings.from_env())
        os.makedirs(home, mode=0o700, exist_ok=True)
        path = os.path.join(home, "tasks.db")
    return sqlite.SqliteTaskQueue(path)


def _read(model: type[M], given: Any) -> M:
    if isinstance(given, model):
        return given
    if isinstance(given, BaseModel):
        raise ConfigError(f"adapter_config must be a {model.__name__} here, got {type(given).__name__}.")
    return model.model_validate({} if given is None else given)
