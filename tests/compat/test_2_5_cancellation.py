"""Surface 2.5: cancelling calls, before and while they run, and what they called; section 10 check 21."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.compat.impl import App, Instance, differs, exceptions, serve
from tests.compat.world import Gate, Journal

Cancelled = exceptions.RequestCancelledError


@serve.deployment(max_ongoing_requests=1, graceful_shutdown_timeout_s=1)
class Single:
    async def __call__(self, gate: Gate, journal: Journal, name: str = "") -> str:
        journal.write(f"started{name}")
        try:
            await gate.passed()
        except asyncio.CancelledError:
            journal.write(f"cancelled{name}")
            raise
        journal.write(f"finished{name}")
        return "through"

    def sync(self, gate: Gate, journal: Journal) -> str:
        journal.write("started")
        gate.passed_sync()
        journal.write("finished")
        return "through"


@serve.deployment(max_ongoing_requests=10, graceful_shutdown_timeout_s=1)
class Parent:
    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, gate: Gate, journal: Journal) -> str:
        return await self.child.remote(gate, journal, " child")

    async def detached(self, gate: Gate, journal: Journal) -> None:
        journal.write("started parent")
        task = asyncio.ensure_future(self._call(gate, journal))
        await task

    async def _call(self, gate: Gate, journal: Journal) -> str:
        return await self.child.remote(gate, journal, " child")


@pytest.fixture(scope="module")
def single(instance: Instance) -> App:
    return instance.run(Single.bind(), name="single")


@pytest.fixture(scope="module")
def parent(instance: Instance) -> App:
    return instance.run(Parent.bind(Single.bind()), name="parent")


def test_a_running_coroutine_is_cancelled(single: App, gate: Gate, journal: Journal) -> None:
    response = single.handle.remote(gate, journal)
    journal.wait_for("started")
    response.cancel()
    response.cancel()
    assert response.cancelled()
    with pytest.raises(Cancelled):
        response.result(timeout_s=20)
    journal.wait_for("cancelled")


def test_an_awaiter_gets_the_cancellation(single: App, gate: Gate, journal: Journal) -> None:
    async def main() -> None:
        response = single.handle.remote(gate, journal)
        waiter = asyncio.ensure_future(asyncio.wait_for(_await(response), 20))
        await asyncio.to_thread(journal.wait_for, "started")
        response.cancel()
        with pytest.raises((Cancelled, asyncio.CancelledError)):
            await waiter

    async def _await(response: Any) -> Any:
        return await response

    asyncio.run(main())
    journal.wait_for("cancelled")


def test_a_queued_call_leaves_the_queue(single: App, gate: Gate, journal: Journal) -> None:
    running = single.handle.remote(gate, journal)
    journal.wait_for("started")
    queued = single.handle.remote(gate, journal, " second")
    queued.cancel()
    with pytest.raises(Cancelled):
        queued.result(timeout_s=20)
    gate.open()
    assert running.result(timeout_s=20) == "through"
    last = single.handle.remote(gate, journal, " third")
    assert last.result(timeout_s=20) == "through"
    assert journal.count("started second") == 0


def test_a_sync_method_runs_to_its_end(single: App, gate: Gate, journal: Journal) -> None:
    response = single.handle.sync.remote(gate, journal)
    journal.wait_for("started")
    response.cancel()
    with pytest.raises(Cancelled):
        response.result(timeout_s=20)
    assert journal.count("finished") == 0
    gate.open()
    journal.wait_for("finished")


def test_cancel_after_the_end_changes_nothing(single: App, gate: Gate, journal: Journal) -> None:
    gate.open()
    response = single.handle.remote(gate, journal)
    assert response.result(timeout_s=20) == "through"
    response.cancel()
    assert response.result(timeout_s=20) == "through"


def test_children_are_cancelled_with_their_parent(parent: App, gate: Gate, journal: Journal) -> None:
    response = parent.handle.remote(gate, journal)
    journal.wait_for("started child")
    response.cancel()
    journal.wait_for("cancelled child")
    with pytest.raises(Cancelled):
        response.result(timeout_s=20)


def test_children_in_tasks_of_their_own_are_cancelled_too(parent: App, gate: Gate, journal: Journal) -> None:
    response = parent.handle.detached.remote(gate, journal)
    journal.wait_for("started child")
    response.cancel()
    journal.wait_for("cancelled child")


def test_pending_children_are_cancelled_too(parent: App, new_gate: Any, journal: Journal) -> None:
    holder_gate, gate = new_gate(), new_gate()
    child = serve.get_deployment_handle("Single", app_name="parent")
    holder = child.remote(holder_gate, journal, " holder")
    journal.wait_for("started holder")
    response = parent.handle.detached.remote(gate, journal)
    journal.wait_for("started parent")
    response.cancel()
    with pytest.raises(Cancelled):
        response.result(timeout_s=20)
    holder_gate.open()
    assert holder.result(timeout_s=20) == "through"
    gate.open()
    last = child.remote(gate, journal, " last")
    assert last.result(timeout_s=20) == "through"
    assert journal.count("finished child") == 0


@differs("cancel-on-wait-for")
def test_a_timed_out_await_cancels_the_call(single: App, gate: Gate, journal: Journal) -> None:
    async def main() -> None:
        response = single.handle.remote(gate, journal)
        await asyncio.to_thread(journal.wait_for, "started")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response, 0.1)

    asyncio.run(main())
    journal.wait_for("cancelled")
