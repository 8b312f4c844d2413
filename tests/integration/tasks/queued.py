"""Deployments that work off a queue whose place and name the test gives by the environment of the driver."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from eagleray import serve
from eagleray.serve.schema import RedisAdapterConfig, SQLiteAdapterConfig, TaskProcessorConfig
from eagleray.serve.task_consumer import task_consumer, task_handler

LEASE_S = 1.5


def config(store: str, queue: str, **options: Any) -> TaskProcessorConfig:
    """`store`: a path of an SQLite file or a URL of Redis."""
    times = {"visibility_timeout_s": LEASE_S, "retry_backoff_s": 0.05}
    kind = "Redis" if "://" in store else "SQLite"
    chosen = (
        RedisAdapterConfig(url=store, **times) if "://" in store else SQLiteAdapterConfig(path=store, **times)
    )
    return TaskProcessorConfig(
        queue_name=queue,
        adapter=f"ray.serve.task_processor.{kind}TaskProcessorAdapter",
        adapter_config=chosen,
        failed_task_queue_name=f"{queue}-failed",
        unprocessable_task_queue_name=f"{queue}-unprocessable",
        **options,
    )


def touch(directory: str, name: str) -> None:
    Path(directory, name).touch()


class Handlers:
    """`note` files tell the test what has begun; the file `go` lets what waits go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._most = 0

    @task_handler
    def describe(self, number: int) -> dict[str, Any]:
        context = serve.get_replica_context()
        request = serve.context._get_serve_request_context()
        return {"number": number, "deployment": context.deployment, "request_id": request.request_id}

    @task_handler(name="add")
    async def added(self, left: int, right: int = 1) -> int:
        await asyncio.sleep(0)
        return left + right

    @task_handler
    def fail_twice(self, directory: str) -> str:
        attempts = len(list(Path(directory).glob("attempt-*")))
        Path(directory, f"attempt-{attempts}").touch()
        if attempts < 2:
            raise ValueError(f"attempt {attempts}")
        return "third time lucky"

    @task_handler
    def always_fails(self) -> None:
        raise RuntimeError("never")

    @task_handler
    def odd_result(self) -> Any:
        return {1, 2}

    @task_handler
    def wait_go(self, directory: str, name: str) -> int:
        with self._lock:
            self._running += 1
            self._most = max(self._most, self._running)
        Path(directory, f"{name}-{os.getpid()}").touch()
        gate = threading.Event()
        while not Path(directory, "go").exists():
            gate.wait(0.01)
        with self._lock:
            self._running -= 1
            return self._most

    @task_handler
    async def wait_cancelled(self, directory: str) -> None:
        touch(directory, "begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            touch(directory, "cancelled")
            raise

    def __call__(self, request: Any) -> int:
        return os.getpid()


def application(store: str, queue: str, *, max_retries: int = 3, **options: Any) -> serve.Application:
    """Handlers on that queue."""
    marked = task_consumer(task_processor_config=config(store, queue, max_retries=max_retries))(
        type("Worker", (Handlers,), {})
    )
    return serve.deployment(name="Worker", **options)(marked).bind()
