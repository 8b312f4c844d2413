"""`choose_replica` and `broadcast` with real replicas, some of which are killed: errors say what became of the call,
and no slot is lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.processes import wait_gone
from tests.waiting import wait_until

from eagleray import serve
from eagleray.base.errors import (
    DeploymentUnavailableError,
    EaglerayError,
    ReplicaDiedError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from eagleray.serve.context import process

pytestmark = pytest.mark.usefixtures("instance")


def mark(directory: str, name: str) -> None:
    Path(directory, name).touch()


@serve.deployment(num_replicas=3, max_ongoing_requests=4)
class Worker:
    async def __call__(self, value: Any = None) -> Any:
        return value

    async def who(self) -> tuple[str, int]:
        return serve.get_replica_context().replica_tag, os.getpid()

    async def total(self, array: Any) -> float:
        return float(array.sum())

    async def hang(self, directory: str) -> None:
        mark(directory, f"hangs {os.getpid()}")
        await asyncio.Event().wait()

    async def items(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number


@serve.deployment(max_ongoing_requests=1)
class Narrow:
    async def __call__(self, value: Any = None) -> Any:
        return value

    async def pid(self) -> int:
        return os.getpid()


@serve.deployment(max_ongoing_requests=10)
class Parent:
    """Holds a slot of its child until it is cancelled."""

    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, directory: str) -> None:
        async with self.child.choose_replica():
            mark(directory, "holds")
            await asyncio.Event().wait()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(limited())


def no_slot_is_lost(key: str) -> None:
    assert process.runtime is not None
    router: Any = process.runtime._router
    wait_until(lambda: router.ongoing(key) == 0 and router.queued(key) == 0)
    assert not any(target.pinned for target in router.open(key).targets)


def everyone(handle: Any, count: int = 3) -> dict[str, int]:
    """Replicas and their processes, once there are so many."""
    found: dict[str, int] = {}

    def are_there() -> bool:
        found.clear()
        try:
            found.update(handle.broadcast("who").results(timeout_s=20))
        except (DeploymentUnavailableError, ReplicaDiedError):
            return False
        return len(found) == count

    wait_until(are_there)
    return found


@pytest.fixture(scope="module")
def worker() -> Any:
    return serve.run(Worker.bind(), name="worker", route_prefix=None)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert not wait_gone([pid], 30.0)


def test_arrays_and_streams_go_to_the_chosen_replica(worker: Any) -> None:
    array = np.arange(1_000_000, dtype=np.float64)

    async def main() -> None:
        async with worker.total.choose_replica() as selection:
            assert await worker.dispatch(selection, array) == array.sum()
        async with worker.total.choose_replica() as selection:
            assert await worker.dispatch(selection, worker.remote(array)) == array.sum()
        async with worker.items.options(stream=True).choose_replica() as selection:
            assert [item async for item in worker.dispatch(selection)] == [0, 1, 2]

    run(main())
    assert worker.broadcast("total", worker.remote(array)).results(timeout_s=20) == [array.sum()] * 3
    no_slot_is_lost("worker#Worker")


def test_a_chosen_replica_that_is_killed_has_run_nothing(worker: Any) -> None:
    processes = everyone(worker)

    async def main() -> None:
        async with worker.choose_replica() as selection:
            await asyncio.to_thread(kill, processes[selection.replica_id])
            await asyncio.to_thread(wait_until, lambda: selection._call.outcome)
            with pytest.raises(ReplicaUnavailableError, match=selection.replica_id):
                await worker.dispatch(selection)
        async with worker.choose_replica() as again:
            assert again.replica_id != selection.replica_id
            assert await worker.dispatch(again, "x") == "x"

    run(main())
    assert everyone(worker) != processes
    no_slot_is_lost("worker#Worker")


def test_a_replica_that_is_killed_while_it_works_may_have_run_it(worker: Any, tmp_path: Path) -> None:
    processes = everyone(worker)

    async def main() -> None:
        async with worker.hang.choose_replica() as selection:
            pid = processes[selection.replica_id]
            response = worker.dispatch(selection, str(tmp_path))
            await asyncio.to_thread(wait_until, (tmp_path / f"hangs {pid}").exists)
            kill(pid)
            with pytest.raises(ReplicaDiedError):
                await response

    run(main())
    everyone(worker)
    no_slot_is_lost("worker#Worker")


def test_cancelling_a_request_gives_back_what_it_holds(tmp_path: Path) -> None:
    parent = serve.run(Parent.bind(Narrow.bind()), name="parent", route_prefix=None)
    narrow = serve.get_deployment_handle("Narrow", app_name="parent")
    response = parent.remote(str(tmp_path))
    wait_until((tmp_path / "holds").exists)
    waiting = narrow.remote("x")
    with pytest.raises(TimeoutError):
        waiting.result(timeout_s=0.2)
    response.cancel()
    assert waiting.result(timeout_s=20) == "x"
    no_slot_is_lost("parent#Narrow")


def test_no_slot_is_lost_between_choices_cancels_and_a_kill() -> None:
    """With one slot in all, a lost one would leave the last call waiting for ever."""
    narrow = serve.run(Narrow.bind(), name="narrow", route_prefix=None)
    victim = narrow.pid.remote().result(timeout_s=10)

    async def one(number: int) -> None:
        try:
            async with narrow.choose_replica() as selection:
                if number == 20:
                    os.kill(victim, signal.SIGKILL)
                if number % 3:
                    response = narrow.dispatch(selection, number)
                    if number % 7 == 1:
                        response.cancel()
                    assert await response == number
                elif number % 2:
                    await asyncio.sleep(0)
        except (ReplicaUnavailableError, ReplicaDiedError, RequestCancelledError):
            pass

    async def main() -> None:
        tasks = [asyncio.ensure_future(one(number)) for number in range(60)]
        for task in tasks[5::11]:
            asyncio.get_running_loop().call_later(0.001, task.cancel)
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            assert found is None or isinstance(found, asyncio.CancelledError), found

    run(main())
    assert narrow.remote("last").result(timeout_s=20) == "last"
    no_slot_is_lost("narrow#Narrow")


def test_a_broadcast_names_the_death_of_a_replica_that_had_taken_it(worker: Any, tmp_path: Path) -> None:
    processes = everyone(worker)
    response = worker.broadcast("hang", str(tmp_path))
    wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
    victim, *others = processes.values()
    kill(victim)
    with pytest.raises(ReplicaDiedError):
        response.results(timeout_s=20)
    with pytest.raises(TimeoutError, match="2 of 3 replicas"):
        response.results(timeout_s=0.2, return_exceptions=True)
    for pid in others:
        kill(pid)
    found = response.results(timeout_s=20, return_exceptions=True)
    assert [type(error) for error in found] == [ReplicaDiedError] * 3
    everyone(worker)
    no_slot_is_lost("worker#Worker")


def test_a_broadcast_waits_for_full_replicas_and_not_for_those_that_go() -> None:
    narrow = serve.run(Narrow.options(num_replicas=2).bind(), name="two", route_prefix=None)
    wait_until(lambda: len(narrow.broadcast("pid").results(timeout_s=20)) == 2)

    async def main() -> None:
        async with narrow.choose_replica() as first, narrow.choose_replica() as second:
            assert first.replica_id != second.replica_id
            response = narrow.broadcast("pid")
            with pytest.raises(TimeoutError):
                await response.results_async(timeout_s=0.2)
            assert await narrow.dispatch(first, "free") == "free"
            with pytest.raises(TimeoutError):
                await response.results_async(timeout_s=0.2)
            assert await narrow.dispatch(second, "free") == "free"
            assert len(await response.results_async(timeout_s=20)) == 2

    run(main())
    no_slot_is_lost("two#Narrow")


def test_what_does_not_exist_has_no_replicas() -> None:
    app = serve.run(Narrow.bind(), name="gone", route_prefix=None)
    assert app.broadcast("pid").results(timeout_s=20)
    serve.delete("gone")
    with pytest.raises(DeploymentUnavailableError):
        app.broadcast("pid").results(timeout_s=20)

    async def main() -> None:
        with pytest.raises(EaglerayError):
            async with app.choose_replica():
                pass

    run(main())
