"""Surface 2.6: limits, queues, order and retries as callers see them; section 10 checks 12, 22 and 23."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.client import Reply
from tests.compat.impl import Instance, differs, exceptions, needs_processes, serve
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until


def test_a_replica_never_runs_more_than_its_limit(instance: Instance, journal: Journal) -> None:
    @serve.deployment(num_replicas=2, max_ongoing_requests=3)
    class Model:
        def __init__(self) -> None:
            self.running = 0
            self.most = 0

        async def __call__(self) -> int:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.02)
            self.running -= 1
            return self.most

    app = instance.run(Model.bind())
    handles = [app.handle, serve.get_app_handle(app.name), serve.get_deployment_handle("Model", app.name)]
    responses = [handle.remote() for _ in range(20) for handle in handles]
    assert max(response.result(timeout_s=30) for response in responses) == 3


@needs_processes
def test_both_replicas_are_used(instance: Instance, gate: Gate, journal: Journal) -> None:
    @serve.deployment(num_replicas=2, max_ongoing_requests=1)
    class Model:
        async def __call__(self) -> int:
            journal.write("in")
            await gate.passed()
            return os.getpid()

    app = instance.run(Model.bind())
    responses = [app.handle.remote() for _ in range(2)]
    journal.wait_for("in", count=2)
    gate.open()
    assert len({response.result(timeout_s=20) for response in responses}) == 2


@needs_processes
def test_calls_before_the_first_replica_wait(instance: Instance, gate: Gate) -> None:
    @serve.deployment
    class Slow:
        def __init__(self) -> None:
            gate.passed_sync()

        def __call__(self) -> str:
            return "up"

    [handle] = serve.run_many(
        [serve.RunTarget(Slow.bind(), name="waiting", route_prefix=None)], wait_for_applications_running=False
    )
    response = handle.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.1)
    gate.open()
    assert response.result(timeout_s=20) == "up"


@differs("first-in-first-out")
def test_queued_calls_run_in_order(instance: Instance, gate: Gate, journal: Journal) -> None:
    @serve.deployment(max_ongoing_requests=1)
    class Model:
        def __init__(self) -> None:
            self.order: list[int] = []

        async def __call__(self, number: int) -> list[int]:
            self.order.append(number)
            journal.write("in")
            await gate.passed()
            return self.order

    app = instance.run(Model.bind())
    responses = [app.handle.remote(0)]
    journal.wait_for("in")
    responses += [app.handle.remote(number) for number in range(1, 5)]
    gate.open()
    assert [response.result(timeout_s=20) for response in responses][-1] == list(range(5))


def test_a_full_queue_is_back_pressure(instance: Instance, gate: Gate, journal: Journal) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=2)
    class Model:
        async def __call__(self, request: Any = None) -> str:
            journal.write("in")
            await gate.passed()
            return "through"

    app = instance.run(Model.bind())
    running = app.handle.remote()
    journal.wait_for("in")
    queued = [app.handle.remote() for _ in range(2)]
    dropped = app.handle.remote()
    with pytest.raises(exceptions.BackPressureError) as caught:
        dropped.result(timeout_s=20)
    assert caught.value.message == exceptions.BackPressureError(2, 2).message
    gate.open()
    assert [response.result(timeout_s=20) for response in [running, *queued]] == ["through"] * 3
    assert app.call() == "through"


@differs("queue-limit-per-deployment")
def test_all_who_wait_count_against_the_limit(instance: Instance, gate: Gate, journal: Journal) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=2)
    class Model:
        async def __call__(self, request: Any = None) -> str:
            journal.write("in")
            await gate.passed()
            return "through"

    app = instance.run(Model.bind())
    running = app.handle.remote()
    journal.wait_for("in")
    queued = app.handle.remote()
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(app.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(replies) == 1, "the refusal of one of two requests over HTTP")
    assert (replies[0].status, replies[0].text) == (503, exceptions.BackPressureError(2, 2).message)
    with pytest.raises(exceptions.BackPressureError):
        app.handle.remote().result(timeout_s=20)
    gate.open()
    for thread in threads:
        thread.join()
    assert [running.result(timeout_s=20), queued.result(timeout_s=20), replies[1].text] == ["through"] * 3


@needs_processes
def test_two_sync_calls_do_not_block_async_ones_or_health_checks(
    instance: Instance, gate: Gate, journal: Journal
) -> None:
    @serve.deployment(health_check_period_s=0.2)
    class Model:
        def block(self) -> None:
            journal.write("block")
            gate.passed_sync()

        async def __call__(self) -> str:
            return "free"

        async def check_health(self) -> None:
            journal.write("check")

    app = instance.run(Model.bind())
    responses = [app.handle.block.remote() for _ in range(2)]
    journal.wait_for("block", count=2)
    assert app.call() == "free"
    journal.wait_for("check", count=journal.count("check") + 2)
    gate.open()
    for response in responses:
        response.result(timeout_s=20)


@needs_processes
def test_a_death_in_flight_is_an_error_and_the_next_call_works(
    instance: Instance, new_gate: Callable[[], Gate], journal: Journal
) -> None:
    gate = new_gate()

    @serve.deployment
    class Model:
        async def __call__(self) -> int:
            return os.getpid()

        async def wait(self) -> None:
            journal.write("in")
            await gate.passed()

    app = instance.run(Model.bind())
    pid = app.call()
    response = app.handle.wait.remote()
    journal.wait_for("in")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Exception) as caught:
        response.result(timeout_s=20)
    assert not isinstance(caught.value, TimeoutError)
    assert app.call() != pid
    assert journal.count("in") == 1
    wait_until(lambda: app.status().status == "RUNNING", "the replacement")
