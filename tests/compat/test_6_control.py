"""Surface 6.1 to 6.4: replacing, failing, checking and stopping replicas; section 10 checks 28, 29 and 31 to 33."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.impl import App, Instance, differs, serve
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until


class Load:
    """Calls an application over and over, by HTTP and by handle, and keeps what went wrong."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.failures: list[str] = []
        self.answers: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(call,)) for call in (self._http, self._handle)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 10, "the first answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, call: Callable[[], str]) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(call())
            except Exception as error:
                self.failures.append(repr(error))

    def _http(self) -> str:
        reply = self.app.get()
        if reply.status != 200:
            raise AssertionError(f"{reply.status} {reply.text}")
        return reply.text

    def _handle(self) -> str:
        return str(self.app.call())


def version(text: str, **options: Any) -> Any:
    @serve.deployment(name="versioned", graceful_shutdown_wait_loop_s=0.1, **options)
    class Versioned:
        async def __call__(self, request: Any = None) -> str:
            return text

    return Versioned.bind()


def test_a_redeploy_under_load_fails_no_request(instance: Instance) -> None:
    app = instance.run(version("v1", num_replicas=2), name="rolling")
    with Load(app) as load:
        instance.run(version("v2", num_replicas=2), name="rolling")
        assert app.call() == "v2"
        assert app.get().text == "v2"
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 10, "more answers")
    assert load.failures == []
    assert set(load.answers) == {"v1", "v2"}
    assert set(load.answers[-3:]) == {"v2"}


def test_one_replica_is_replaced_without_a_failed_request(instance: Instance) -> None:
    app = instance.run(version("v1"), name="single-rolling")
    with Load(app) as load:
        instance.run(version("v2"), name="single-rolling")
    assert load.failures == []


def test_a_redeploy_can_change_the_number_of_replicas(instance: Instance) -> None:
    app = instance.run(version("v1", num_replicas=3), name="counted")
    assert app.status().deployments["versioned"].replica_states == {"RUNNING": 3}
    app = instance.run(version("v2", num_replicas=1), name="counted")
    wait_until(lambda: app.status().deployments["versioned"].replica_states == {"RUNNING": 1}, "one replica")
    assert app.call() == "v2"


def broken(**options: Any) -> Any:
    @serve.deployment(name="versioned", graceful_shutdown_wait_loop_s=0.1, **options)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("bad version")

        def __call__(self) -> None: ...

    return Broken.bind()


@differs("surge-first")
def test_a_broken_version_leaves_the_single_old_replica_serving(instance: Instance) -> None:
    app = instance.run(version("v1"), name="halted-single")
    with pytest.raises(RuntimeError):
        instance.run(broken(max_constructor_retry_count=1), name="halted-single")
    assert app.get().text == "v1"


def test_a_broken_version_leaves_old_replicas_serving_and_a_good_one_recovers(instance: Instance) -> None:
    app = instance.run(version("v1", num_replicas=2), name="halted")
    with pytest.raises(RuntimeError):
        instance.run(broken(num_replicas=2, max_constructor_retry_count=2), name="halted")
    assert app.status().status == "DEPLOY_FAILED"
    assert app.call() == "v1"
    assert app.get().text == "v1"
    app = instance.run(version("v3", num_replicas=2), name="halted")
    assert app.status().status == "RUNNING"
    assert app.call() == "v3"


@pytest.mark.parametrize(("limit", "replicas", "tries"), [(20, 1, 3), (2, 1, 2), (20, 2, 6)])
def test_the_number_of_start_attempts(
    instance: Instance, journal: Journal, limit: int, replicas: int, tries: int
) -> None:
    @serve.deployment(max_constructor_retry_count=limit, num_replicas=replicas)
    class Broken:
        def __init__(self) -> None:
            journal.write("try")
            raise ValueError("broken")

    with pytest.raises(RuntimeError):
        instance.run(Broken.bind())
    # Attempts that had begun when the budget ran out may still be counted.
    assert tries <= journal.count("try") <= tries + replicas


def test_a_constructor_that_fails_at_first_is_tried_again(instance: Instance, journal: Journal) -> None:
    @serve.deployment
    class Hesitant:
        def __init__(self) -> None:
            journal.write("try")
            if journal.count("try") < 3:
                raise ValueError("not yet")

        def __call__(self) -> str:
            return "up"

    assert instance.run(Hesitant.bind()).call() == "up"


def test_the_first_health_check_belongs_to_the_start(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Ill:
        def check_health(self) -> None:
            raise ValueError("ill from the start")

    with pytest.raises(RuntimeError):
        instance.run(Ill.bind(), name="ill")
    assert "ill from the start" in serve.status().applications["ill"].deployments["Ill"].message


def test_three_failed_health_checks_replace_a_replica(
    instance: Instance, gate: Gate, journal: Journal
) -> None:
    @serve.deployment(health_check_period_s=0.2, graceful_shutdown_wait_loop_s=0.1)
    class Model:
        def __init__(self) -> None:
            journal.write("start")
            self.is_first = journal.count("start") == 1

        def __call__(self) -> int:
            return os.getpid()

        async def check_health(self) -> None:
            if self.is_first and gate.is_open():
                journal.write("failed")
                raise ValueError("ill")

    app = instance.run(Model.bind())
    pid = app.call()
    gate.open()
    journal.wait_for("start", count=2)
    wait_until(lambda: app.status().status == "RUNNING" and app.call() != pid, "the replacement")
    assert journal.count("failed") >= 3


def test_a_health_check_that_fails_twice_is_forgiven(
    instance: Instance, gate: Gate, journal: Journal
) -> None:
    @serve.deployment(health_check_period_s=0.2)
    class Model:
        def __init__(self) -> None:
            self.failed = 0

        def __call__(self) -> int:
            return os.getpid()

        async def check_health(self) -> None:
            if gate.is_open():
                journal.write("check")
                if journal.count("check") < 3:
                    raise ValueError("briefly ill")

    app = instance.run(Model.bind())
    pid = app.call()
    gate.open()
    journal.wait_for("check", count=6)
    assert app.call() == pid
    assert app.status().status == "RUNNING"


def test_a_hanging_health_check_replaces_a_replica(
    instance: Instance, new_gate: Any, journal: Journal
) -> None:
    gate, never = new_gate(), new_gate()

    @serve.deployment(health_check_period_s=0.1, health_check_timeout_s=0.2, graceful_shutdown_timeout_s=0.2)
    class Model:
        def __init__(self) -> None:
            journal.write("start")
            self.is_first = journal.count("start") == 1

        def __call__(self) -> int:
            return os.getpid()

        async def check_health(self) -> None:
            if self.is_first and gate.is_open():
                await never.passed()

    app = instance.run(Model.bind())
    pid = app.call()
    gate.open()
    journal.wait_for("start", count=2)
    wait_until(lambda: app.status().status == "RUNNING" and app.call() != pid, "the replacement")


def test_requests_in_flight_finish_before_a_replica_stops(
    instance: Instance, gate: Gate, journal: Journal
) -> None:
    @serve.deployment(graceful_shutdown_wait_loop_s=0.1, graceful_shutdown_timeout_s=20)
    class Model:
        async def __call__(self) -> str:
            journal.write("in")
            await gate.passed()
            journal.write("out")
            return "through"

        def __del__(self) -> None:
            journal.write("del")

    app = instance.run(Model.bind())
    response = app.handle.remote()
    journal.wait_for("in")
    serve.delete(app.name, _blocking=False)
    wait_until(lambda: app.status().status == "DELETING", "the deletion")
    gate.open()
    assert response.result(timeout_s=20) == "through"
    journal.wait_for("del")
    assert journal.lines() == ["in", "out", "del"]


@pytest.mark.parametrize("timeout_s", [0, 0.3])
def test_after_the_graceful_time_a_replica_is_killed(
    instance: Instance, new_gate: Any, journal: Journal, timeout_s: float
) -> None:
    never = new_gate()

    @serve.deployment(graceful_shutdown_wait_loop_s=0.1, graceful_shutdown_timeout_s=timeout_s)
    class Model:
        async def __call__(self) -> None:
            journal.write("in")
            await never.passed()
            journal.write("out")

    app = instance.run(Model.bind())
    response = app.handle.remote()
    journal.wait_for("in")
    serve.delete(app.name)
    with pytest.raises(Exception) as caught:
        response.result(timeout_s=20)
    assert not isinstance(caught.value, TimeoutError)
    assert app.name not in serve.status().applications
    assert journal.count("out") == 0


def test_callers_stop_before_those_they_call(instance: Instance, journal: Journal) -> None:
    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    class Child:
        def __call__(self) -> str:
            return "child"

    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    class Parent:
        def __init__(self, child: Any) -> None:
            self.child = child

        async def __call__(self, gate: Gate) -> str:
            journal.write("in")
            await gate.passed()
            return await self.child.remote()

    app = instance.run(Parent.bind(Child.bind()))
    gate = Gate(f"{journal.path}-gate")  # type: ignore[arg-type]
    response = app.handle.remote(gate)
    journal.wait_for("in")
    stopping = threading.Thread(target=serve.shutdown)
    stopping.start()
    try:
        wait_until(lambda: _is_deleting(app), "the deletion")
        gate.open()
        assert response.result(timeout_s=20) == "child"
    finally:
        gate.open()
        stopping.join()


def _is_deleting(app: App) -> bool:
    return app.name not in (found := serve.status().applications) or found[app.name].status == "DELETING"
