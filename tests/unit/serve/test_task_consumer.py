"""Decorators, configs and adapters of task consumers, as far as they need no running instance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from tests.waiting import wait_until

from eagleray import serve
from eagleray.base.errors import ConfigError, EaglerayError
from eagleray.serve.autoscaling_policy import AsyncInferenceAutoscalingPolicy
from eagleray.serve.config import AutoscalingPolicy
from eagleray.serve.schema import (
    CeleryAdapterConfig,
    MemoryAdapterConfig,
    RedisAdapterConfig,
    SQLiteAdapterConfig,
    TaskProcessorAdapter,
    TaskProcessorConfig,
)
from eagleray.serve.task_consumer import instantiate_adapter_from_config, task_consumer, task_handler
from eagleray.serve.task_processor import CeleryTaskProcessorAdapter, options_for
from eagleray.tasks.consumer import retry_delay_s
from eagleray.tasks.record import TaskNotFoundError, TaskQueueError

MEMORY = "eagleray.serve.task_processor.MemoryTaskProcessorAdapter"


def memory(**options: Any) -> TaskProcessorConfig:
    fast = MemoryAdapterConfig(retry_backoff_s=0.0)
    return TaskProcessorConfig(queue_name=uuid4().hex, adapter=MEMORY, adapter_config=fast, **options)


@pytest.fixture
def config() -> TaskProcessorConfig:
    return memory()


@pytest.fixture
def adapter(config: TaskProcessorConfig) -> Iterator[TaskProcessorAdapter]:
    made = instantiate_adapter_from_config(config)
    yield made
    made.stop_consumer()


@pytest.mark.parametrize("name", ["", "  ", 3])
def test_a_blank_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="not blank"):
        task_handler(name=name)


def test_a_class_without_handlers_is_refused(config: TaskProcessorConfig) -> None:
    with pytest.raises(ValueError, match="no method with @task_handler"):
        task_consumer(task_processor_config=config)(type("Empty", (), {}))
    with pytest.raises(TypeError, match="must be applied to a class"):
        task_consumer(task_processor_config=config)(len)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="must be a TaskProcessorConfig, got dict"):
        task_consumer(task_processor_config={})  # type: ignore[arg-type]


def test_two_handlers_of_one_name_are_refused(config: TaskProcessorConfig) -> None:
    class Twice:
        @task_handler(name="same")
        def one(self) -> None: ...

        @task_handler(name="same")
        def two(self) -> None: ...

    with pytest.raises(ValueError, match="two handlers for task 'same'"):
        task_consumer(task_processor_config=config)(Twice)


def test_what_is_configured_is_checked() -> None:
    assert TaskProcessorConfig(queue_name="q").max_retries == 3
    for wrong in ({"queue_name": ""}, {"max_retries": -1}, {"adapter": 3}, {"max_retry": 1}):
        with pytest.raises(ValidationError):
            TaskProcessorConfig(**{"queue_name": "q", **wrong})


def test_the_broker_chooses_the_queue() -> None:
    assert options_for("redis://host/1") == RedisAdapterConfig(url="redis://host/1")
    assert options_for("sqlite:////a/b.db", visibility_timeout_s=5) == SQLiteAdapterConfig(
        path="/a/b.db", visibility_timeout_s=5
    )
    assert options_for("sqlite://") == SQLiteAdapterConfig()
    assert options_for("memory://") == MemoryAdapterConfig()
    queue = instantiate_adapter_from_config(
        TaskProcessorConfig(
            queue_name="q",
            adapter_config=CeleryAdapterConfig(
                broker_url="memory://", retry_backoff_s=2, broker_transport_options={"visibility_timeout": 7}
            ),
        )
    )
    assert isinstance(queue, CeleryTaskProcessorAdapter)
    assert queue.options == MemoryAdapterConfig(visibility_timeout_s=7, retry_backoff_s=2)
    with pytest.raises(ValidationError, match="retry_backof"):
        CeleryAdapterConfig(broker_url="memory://", retry_backof=2)  # type: ignore[call-arg]
    celery = CeleryAdapterConfig(broker_url="amqp://guest@host", backend_url="rpc://")
    with pytest.raises(ConfigError, match="No task queue for a broker of kind 'amqp'"):
        instantiate_adapter_from_config(TaskProcessorConfig(queue_name="q", adapter_config=celery))


def test_an_adapter_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'ray\.serve\.nowhere\.Adapter' was not found"):
        instantiate_adapter_from_config(
            TaskProcessorConfig(queue_name="q", adapter="ray.serve.nowhere.Adapter")
        )
    with pytest.raises(TypeError, match=r"no eagleray\.serve\.schema\.TaskProcessorAdapter"):
        instantiate_adapter_from_config(TaskProcessorConfig(queue_name="q", adapter=lambda config: 3))


def test_arguments_must_be_json(adapter: TaskProcessorAdapter) -> None:
    with pytest.raises(ConfigError, match="arguments travel as JSON"):
        adapter.enqueue_task_sync("work", args=[{1, 2}])
    with pytest.raises(ConfigError, match="args must be a list"):
        adapter.enqueue_task_sync("work", args="text")
    with pytest.raises(ConfigError, match="unknown options eta"):
        adapter.enqueue_task_sync("work", eta=3)
    with pytest.raises(ConfigError, match="needs a name"):
        adapter.enqueue_task_sync(" ")


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -float("inf"), 1e12, "3", True, [1]])
def test_a_delay_that_no_store_can_count_is_refused(adapter: TaskProcessorAdapter, delay: Any) -> None:
    with pytest.raises(ConfigError, match="'work': countdown must be a number of seconds"):
        adapter.enqueue_task_sync("work", countdown=delay)


@pytest.mark.parametrize("option", ["task_id", "queue"])
def test_ids_and_queues_are_texts(adapter: TaskProcessorAdapter, option: str) -> None:
    for wrong in (17, "\ud800"):
        with pytest.raises(ConfigError, match=f"{option} must be a text, of valid Unicode, got"):
            adapter.enqueue_task_sync("work", **{option: wrong})


def test_halves_of_characters_are_no_names_and_no_ids(adapter: TaskProcessorAdapter) -> None:
    with pytest.raises(ConfigError, match="name must be valid Unicode"):
        adapter.enqueue_task_sync("\ud800")
    with pytest.raises(TaskNotFoundError, match="There is no task"):
        adapter.get_task_status_sync("\ud800")


def test_what_has_no_async_twin_says_so(adapter: TaskProcessorAdapter) -> None:
    with pytest.raises(NotImplementedError, match="use 'enqueue_task_sync'"):
        asyncio.run(adapter.enqueue_task_async("work"))


def test_an_adapter_works_without_an_instance(adapter: TaskProcessorAdapter) -> None:
    adapter.initialize(consumer_concurrency=2)
    adapter.register_task_handle(lambda x: x + 1, "plus")
    adapter.start_consumer()
    with pytest.raises(EaglerayError, match="started already"):
        adapter.start_consumer()
    task = adapter.enqueue_task_sync("plus", args=(1,))
    assert task.status in ("PENDING", "STARTED", "SUCCESS")
    wait_until(lambda: adapter.get_task_status_sync(task.id).result == 2, "its result")
    adapter.stop_consumer()
    waits = adapter.enqueue_task_sync("plus", args=(2,))
    assert adapter.get_task_status_sync(waits.id).status == "PENDING"


def test_a_task_runs_once_more_than_it_may_be_retried() -> None:
    config = memory(max_retries=2, failed_task_queue_name="failed-" + uuid4().hex)
    adapter = instantiate_adapter_from_config(config)
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        raise SystemExit(3)

    adapter.initialize()
    adapter.register_task_handle(fail)
    adapter.start_consumer()
    task = adapter.enqueue_task_sync("fail")
    wait_until(lambda: adapter.get_task_status_sync(task.id).status == "FAILURE", "its failure")
    assert len(attempts) == 3 and adapter.get_metrics_sync()["failed"] == 1
    adapter.stop_consumer()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unreadable(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


def test_what_breaks_when_it_is_told_costs_its_own_task_only() -> None:
    adapter = instantiate_adapter_from_config(memory(max_retries=0))

    def fail() -> None:
        raise Unspeakable

    adapter.initialize(1)
    adapter.register_task_handle(fail)
    adapter.register_task_handle(lambda: Unreadable(a=1), "unreadable")
    adapter.register_task_handle(lambda: 3, "well")
    adapter.start_consumer()
    broken = [adapter.enqueue_task_sync(name).id for name in ("fail", "unreadable")]
    well = adapter.enqueue_task_sync("well").id
    wait_until(lambda: adapter.get_task_status_sync(well).result == 3, "the task after them")
    states = [adapter.get_task_status_sync(one) for one in broken]
    assert [state.status for state in states] == ["FAILURE", "FAILURE"]
    assert states[0].result == "Unspeakable: <Unspeakable, whose __str__ raises RuntimeError>"
    assert "cannot be kept as JSON: no items" in states[1].result
    adapter.stop_consumer()


def test_a_consumer_that_gets_its_own_task_again_knows_both_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    config = TaskProcessorConfig(queue_name="q", adapter_config=SQLiteAdapterConfig(path=path))
    adapter = instantiate_adapter_from_config(config)
    assert isinstance(adapter, CeleryTaskProcessorAdapter)
    runs: list[threading.Event] = []

    def work() -> int:
        runs.append(threading.Event())
        number = len(runs)
        runs[number - 1].wait(60)
        return number

    adapter.initialize(2)
    adapter.register_task_handle(work)
    adapter.start_consumer()
    task = adapter.enqueue_task_sync("work")
    wait_until(lambda: len(runs) == 1, "the first run")
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(
            "UPDATE tasks SET due = 0"
        )  # its lease has run out, as after a long outage of the store
    wait_until(lambda: len(runs) == 2, "the second run")
    assert adapter.get_metrics_sync()["running_here"] == 2
    runs[0].set()
    wait_until(lambda: adapter.get_metrics_sync()["running_here"] == 1, "the end of the first run only")
    runs[1].set()
    wait_until(lambda: adapter.get_task_status_sync(task.id).result == 2, "the result of who holds the lease")
    adapter.close()


def test_stopping_waits_for_tasks_and_gives_back_the_others(adapter: TaskProcessorAdapter) -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)

    adapter.initialize(1)
    adapter.register_task_handle(work)
    adapter.start_consumer()
    task = adapter.enqueue_task_sync("work")
    assert begun.wait(60)
    adapter.stop_consumer(timeout=0.0)
    assert adapter.get_task_status_sync(task.id).status == "PENDING", "another consumer gets it"
    go.set()


def test_delays_grow_up_to_a_minute() -> None:
    for attempts, most in ((0, 1), (1, 2), (5, 32), (6, 60), (10**9, 60)):
        assert 0.75 * most <= retry_delay_s(attempts, 1.0, 60.0) <= most


def test_local_testing_mode_runs_consumers(config: TaskProcessorConfig) -> None:
    @serve.deployment
    @task_consumer(task_processor_config=config)
    class Worker:
        @task_handler
        def double(self, x: int) -> list[Any]:
            return [2 * x, serve.get_replica_context().deployment]

        def __call__(self, x: int) -> str:
            return str(instantiate_adapter_from_config(config).enqueue_task_sync("double", [x]).id)

    handle = serve.run(Worker.bind(), _local_testing_mode=True)
    adapter = instantiate_adapter_from_config(config)
    task_id = handle.remote(4).result()
    wait_until(lambda: adapter.get_task_status_sync(task_id).result == [8, "Worker"], "its result")
    serve.shutdown()


def test_a_queue_that_cannot_be_opened_is_an_error_of_the_queue() -> None:
    config = TaskProcessorConfig(
        queue_name="q", adapter_config=SQLiteAdapterConfig(path="/nowhere/at/all.db")
    )
    with pytest.raises(TaskQueueError, match=r"Failed to open the task queue in '/nowhere/at/all\.db'"):
        instantiate_adapter_from_config(config)


def test_the_policy_is_found_under_rays_name() -> None:
    named = AutoscalingPolicy(policy_function="ray.serve.anywhere.AsyncInferenceAutoscalingPolicy")
    assert named.policy_function.startswith("eagleray.serve.async_inference_autoscaling_policy:")
    assert json.dumps(named.policy_kwargs) == "{}"
    with pytest.raises(ConfigError, match="RabbitMQ"):
        AsyncInferenceAutoscalingPolicy("memory://", "q", rabbitmq_management_url="http://host:15672")
