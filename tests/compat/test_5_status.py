"""Surface 5.5 and 5.6: what `serve.status()` says while applications come, change, fail and go."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.impl import Instance, differs, serve
from tests.compat.world import Gate
from tests.waiting import wait_until


@serve.deployment(name="up")
class Up:
    def __call__(self) -> int:
        return os.getpid()


def deploy_without_waiting(name: str, app: Any) -> Any:
    targets = [serve.RunTarget(app, name=name, route_prefix=None)]
    return serve.run_many(targets, wait_for_applications_running=False)[0]


def test_a_running_application(instance: Instance) -> None:
    before = time.time()
    app = instance.run(Up.options(num_replicas=2).bind())
    overview = app.status()
    assert (overview.status, overview.message) == ("RUNNING", "")
    assert before - 1 <= overview.last_deployed_time_s <= time.time() + 1
    deployment = overview.deployments["up"]
    assert (deployment.status, deployment.status_trigger) == ("HEALTHY", "CONFIG_UPDATE_COMPLETED")
    assert deployment.replica_states == {"RUNNING": 2}
    assert deployment.message == ""


def test_the_whole_status_is_plain_data(instance: Instance) -> None:
    app = instance.run(Up.bind())
    status = serve.status()
    assert list(status.proxies.values()) == ["HEALTHY"]
    assert status.target_capacity is None
    assert dataclasses.asdict(status)["applications"][app.name]["status"] == "RUNNING"


def test_a_deploy_in_progress(instance: Instance, gate: Gate) -> None:
    @serve.deployment
    class Slow:
        def __init__(self) -> None:
            gate.passed_sync()

    deploy_without_waiting("progress", Slow.bind())
    overview = wait_until(
        lambda: (found := serve.status().applications["progress"]) and found.deployments and found,
        "the deployment",
    )
    assert overview.status == "DEPLOYING"
    deployment = overview.deployments["Slow"]
    assert (deployment.status, deployment.status_trigger) == ("UPDATING", "CONFIG_UPDATE_STARTED")
    wait_until(
        lambda: serve.status().applications["progress"].deployments["Slow"].replica_states == {"STARTING": 1},
        "a starting replica",
    )
    gate.open()
    wait_until(lambda: serve.status().applications["progress"].status == "RUNNING", "the application")


def test_a_failed_deploy(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=2)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights")

    with pytest.raises(RuntimeError):
        instance.run(Broken.bind(), name="failed")
    overview = serve.status().applications["failed"]
    assert overview.status == "DEPLOY_FAILED"
    assert overview.message == "Failed to update the deployments ['Broken']."
    deployment = overview.deployments["Broken"]
    assert (deployment.status, deployment.status_trigger) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert deployment.message.startswith("The deployment failed to start 2 times in a row.")
    assert "no weights" in deployment.message


def test_a_failed_application_recovers_by_a_new_deploy(instance: Instance) -> None:
    @serve.deployment(name="phoenix", max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights")

    with pytest.raises(RuntimeError):
        instance.run(Broken.bind(), name="phoenix")
    app = instance.run(Up.options(name="phoenix").bind(), name="phoenix")
    assert app.status().status == "RUNNING"
    assert app.status().deployments["phoenix"].status == "HEALTHY"
    assert app.call()


def test_the_first_failures_are_told_while_retrying(instance: Instance, gate: Gate) -> None:
    @serve.deployment(max_constructor_retry_count=3)
    class Hesitant:
        def __init__(self) -> None:
            if not gate.is_open():
                raise ValueError("not yet")

    deploy_without_waiting("hesitant", Hesitant.bind())

    def message() -> str:
        found = serve.status().applications["hesitant"].deployments.get("Hesitant")
        return found.message if found else ""

    assert "not yet" in wait_until(message, "a message")
    wait_until(lambda: serve.status().applications["hesitant"].status == "DEPLOY_FAILED", "the failure")


def test_a_death_is_unhealthy_until_replaced(instance: Instance, new_gate: Callable[[], Gate]) -> None:
    gate, first = new_gate(), new_gate()

    @serve.deployment
    class Mortal:
        def __init__(self) -> None:
            if first.is_open():
                gate.passed_sync()
            first.open()

        def __call__(self) -> int:
            return os.getpid()

    app = instance.run(Mortal.bind())
    pid = app.call()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: app.status().status == "UNHEALTHY", "the death")
    deployment = app.status().deployments["Mortal"]
    assert (deployment.status, deployment.status_trigger) == ("UNHEALTHY", "HEALTH_CHECK_FAILED")
    gate.open()
    wait_until(lambda: app.status().status == "RUNNING", "the replacement")
    assert app.status().deployments["Mortal"].status == "HEALTHY"
    assert app.call() != pid


def test_an_application_being_deleted(instance: Instance, gate: Gate) -> None:
    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    class Leaving:
        def __call__(self) -> None: ...

        async def __del__(self) -> None:
            await gate.passed()

    app = instance.run(Leaving.bind())
    app.call()
    serve.delete(app.name, _blocking=False)
    overview = wait_until(lambda: serve.status().applications[app.name].status == "DELETING" and app.status())
    assert overview.status == "DELETING"
    gate.open()
    wait_until(lambda: app.name not in serve.status().applications, "the end")


def test_one_unhealthy_deployment_decides_for_the_application(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("child")

    @serve.deployment
    class Parent:
        def __init__(self, child: Any) -> None:
            pass

    with pytest.raises(RuntimeError):
        instance.run(Parent.bind(Broken.bind()), name="half")
    overview = serve.status().applications["half"]
    assert overview.status == "DEPLOY_FAILED"
    assert overview.message == "Failed to update the deployments ['Broken']."
    wait_until(
        lambda: serve.status().applications["half"].deployments["Parent"].status == "HEALTHY", "the parent"
    )


@differs("missing-resources-at-once")
def test_missing_resources_are_named(instance: Instance) -> None:
    deploy_without_waiting("hungry", Up.options(ray_actor_options={"resources": {"unobtainium": 1}}).bind())

    def message() -> str:
        found = serve.status().applications["hungry"].deployments.get("up")
        return found.message if found else ""

    assert "unobtainium" in wait_until(message, "a message")
    assert serve.status().applications["hungry"].status == "DEPLOYING"
    serve.delete("hungry")
