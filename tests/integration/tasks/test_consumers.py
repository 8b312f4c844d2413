"""Task consumers in a running instance: what happens to tasks when handlers fail, replicas die, drain and change."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.tasks import queued
from tests.ports import free_port
from tests.redis_process import RedisProcess, running_redis
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve.schema import TaskProcessorAdapter, TaskResult
from eagleray.serve.task_consumer import instantiate_adapter_from_config
from eagleray.tasks.record import ENDED, TaskNotFoundError

Deploy = Callable[..., "Sender"]


class Sender:
    """Puts tasks into the queue of one application, and waits for what becomes of them."""

    def __init__(self, name: str, adapter: TaskProcessorAdapter, redeploy: Callable[..., object]) -> None:
        self.name = name
        self.adapter = adapter
        self.redeploy = redeploy

    def send(self, name: str, *args: Any, **kwargs: Any) -> str:
        return self.adapter.enqueue_task_sync(name, args=list(args), kwargs=kwargs).id

    def ended(self, task_id: str) -> TaskResult:
        def look() -> TaskResult | None:
            found = self.adapter.get_task_status_sync(task_id)
            return found if found.status in ENDED else None

        return wait_until(look, f"the end of task {task_id}")

    def running(self) -> int:
        """How many replicas there are."""
        status = serve.status().applications[self.name]
        return status.deployments["Worker"].replica_states.get("RUNNING", 0)

    def result(self, task_id: str) -> Any:
        found = self.ended(task_id)
        assert found.status == "SUCCESS", found
        return found.result


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as process:
        yield process


@pytest.fixture(scope="module")
def instance() -> Iterator[None]:
    serve.start(http_options={"port": free_port()})
    yield
    serve.shutdown()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "queue.db")
    return str(request.getfixturevalue("server").url)


@pytest.fixture
def deploy(instance: None, store: str) -> Iterator[Deploy]:
    """Deploys an application on a queue of its own."""
    name = f"tasks-{uuid4().hex[:8]}"
    opened: list[Any] = []

    def deploying(**options: Any) -> Sender:
        retries = options.pop("max_retries", 3)
        if scaled := options.pop("autoscaling", None):
            options["autoscaling_config"] = scaled(name)

        def run(**more: Any) -> None:
            application = queued.application(store, name, max_retries=retries, **{**options, **more})
            serve.run(application, name=name, route_prefix=None)

        run()
        adapter = instantiate_adapter_from_config(queued.config(store, name))
        opened.append(adapter)
        return Sender(name, adapter, run)

    yield deploying
    serve.delete(name)
    for adapter in opened:
        adapter.close()


def names(directory: Path, prefix: str) -> list[str]:
    return sorted(path.name for path in directory.glob(f"{prefix}*"))


def test_what_becomes_of_tasks(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(max_retries=2)
    sync, is_async = tasks.send("describe", 7), tasks.send("add", 3, right=4)
    retried, failed = tasks.send("fail_twice", str(tmp_path)), tasks.send("always_fails")
    unknown, misfit, odd = tasks.send("nothing"), tasks.send("add"), tasks.send("odd_result")

    assert tasks.result(sync) == {"number": 7, "deployment": "Worker", "request_id": sync}
    assert tasks.result(is_async) == 7
    assert tasks.result(retried) == "third time lucky"
    assert (tasks.ended(failed).status, tasks.ended(failed).result) == ("FAILURE", "RuntimeError: never")
    assert "no handler for 'nothing'; there are: add, always_fails" in tasks.ended(unknown).result
    assert "arguments do not fit: missing a required argument: 'left'" in tasks.ended(misfit).result
    assert "its result cannot be kept as JSON" in tasks.ended(odd).result
    metrics = tasks.adapter.get_metrics_sync()
    assert metrics["failed"] == 2 and metrics["unprocessable"] == 2
    assert metrics["waiting"] == metrics["running"] == metrics["delayed"] == 0
    assert tasks.adapter.health_check_sync()[0]["status"] == "ok"
    with pytest.raises(TaskNotFoundError, match="no task 'x'"):
        tasks.adapter.get_task_status_sync("x")


def test_a_replica_that_is_killed_loses_no_task(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(num_replicas=1, max_ongoing_requests=2)
    ids = [tasks.send("wait_go", str(tmp_path), f"task{number}") for number in range(4)]
    begun = wait_until(lambda: found if len(found := names(tmp_path, "task")) == 2 else None, "two run")
    (pid,) = {int(name.rpartition("-")[2]) for name in begun}
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(names(tmp_path, "task")) >= 4, "its tasks run elsewhere")
    (tmp_path / "go").touch()
    assert all(tasks.result(task_id) for task_id in ids)
    ran = {name.rpartition("-")[0] for name in names(tmp_path, "task") if not name.endswith(f"-{pid}")}
    assert ran == {"task0", "task1", "task2", "task3"}


def test_as_many_tasks_run_as_the_replica_takes_requests(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(max_ongoing_requests=2)
    ids = [tasks.send("wait_go", str(tmp_path), f"task{number}") for number in range(5)]
    wait_until(lambda: len(names(tmp_path, "task")) == 2, "two run")
    assert tasks.adapter.get_metrics_sync()["waiting"] == 3
    (tmp_path / "go").touch()
    assert max(tasks.result(task_id) for task_id in ids) == 2


def test_a_replica_that_drains_ends_its_tasks_and_takes_no_more(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(max_ongoing_requests=1, graceful_shutdown_timeout_s=60)
    first = tasks.send("wait_go", str(tmp_path), "first")
    (old,) = wait_until(lambda: names(tmp_path, "first"), "the first has begun")
    tasks.redeploy()
    second = tasks.send("wait_go", str(tmp_path), "second")
    (new,) = wait_until(lambda: names(tmp_path, "second"), "the second has begun")
    assert old.rpartition("-")[2] != new.rpartition("-")[2]
    (tmp_path / "go").touch()
    assert tasks.result(first) and tasks.result(second)
    assert len(names(tmp_path, "first")) == 1, "it was not begun anew"


def test_tasks_that_outlast_a_drain_run_again(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(graceful_shutdown_timeout_s=0.2)
    task = tasks.send("wait_go", str(tmp_path), "task")
    wait_until(lambda: names(tmp_path, "task"), "it has begun")
    tasks.redeploy()
    wait_until(lambda: len(names(tmp_path, "task")) == 2, "it runs in the new replica")
    (tmp_path / "go").touch()
    assert tasks.result(task)


def test_tasks_are_cancelled(deploy: Deploy, tmp_path: Path) -> None:
    tasks = deploy(max_ongoing_requests=1)
    running = tasks.send("wait_cancelled", str(tmp_path))
    waiting = tasks.send("describe", 1)
    wait_until(lambda: (tmp_path / "begun").exists(), "it has begun")
    assert tasks.adapter.cancel_task_sync(waiting) is True
    assert tasks.adapter.cancel_task_sync(running) is True
    wait_until(lambda: (tmp_path / "cancelled").exists(), "its coroutine was cancelled")
    after = tasks.send("describe", 2)
    assert tasks.result(after)["number"] == 2
    assert tasks.ended(waiting).status == tasks.ended(running).status == "REVOKED"
    assert tasks.adapter.cancel_task_sync(after) is False


def test_replicas_are_as_many_as_the_tasks_need(deploy: Deploy, tmp_path: Path, store: str) -> None:
    url = store if "://" in store else f"sqlite:///{store}"
    scaling = {"min_replicas": 0, "max_replicas": 2, "target_ongoing_requests": 2, "look_back_period_s": 0.5}
    scaling |= {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0}
    path = "ray.serve.async_inference_autoscaling_policy:AsyncInferenceAutoscalingPolicy"

    def scaled(queue: str) -> dict[str, Any]:
        kwargs = {"broker_url": url, "queue_name": queue, "poll_interval_s": 0.1}
        return {**scaling, "policy": {"policy_function": path, "policy_kwargs": kwargs}}

    tasks = deploy(max_ongoing_requests=2, autoscaling=scaled)
    wait_until(lambda: tasks.running() == 0, "it has scaled to zero")
    ids = [tasks.send("wait_go", str(tmp_path), f"task{number}") for number in range(4)]
    wait_until(lambda: tasks.running() == 2, "two replicas for four tasks")
    (tmp_path / "go").touch()
    assert all(tasks.result(task_id) for task_id in ids)
    wait_until(lambda: tasks.running() == 0, "none is left without tasks")
