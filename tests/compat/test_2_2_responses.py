"""Surface 2.2: `DeploymentResponse`; section 10 checks 15, 17 to 19."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.compat.impl import App, Instance, exceptions, serve
from tests.compat.world import Gate, Journal


@serve.deployment(max_ongoing_requests=20)
class Model:
    def __call__(self, value: Any = 0) -> Any:
        return value

    async def wait(self, gate: Gate, journal: Journal) -> str:
        journal.write("started")
        await gate.passed()
        journal.write("finished")
        return "through"

    def fail(self) -> None:
        raise ValueError("upstream")

    def record(self, value: Any, journal: Journal) -> None:
        journal.write("ran")

    def add(self, first: int, second: int = 0) -> int:
        return first + second

    async def result_in_loop(self, other: Any) -> str:
        try:
            other.remote().result(timeout_s=5)
        except RuntimeError as error:
            return type(error).__name__
        return "no error"

    async def chain(self, other: Any) -> int:
        return await other.add.remote(other.remote(1), second=other.remote(2))


@pytest.fixture(scope="module")
def model(instance: Instance) -> App:
    return instance.run(Model.bind(), name="responses")


def test_result_can_be_had_again_and_again(model: App) -> None:
    response = model.handle.remote(3)
    assert [response.result(timeout_s=20), response.result(), response.result(timeout_s=0)] == [3, 3, 3]


def test_a_response_can_be_awaited_more_than_once_and_concurrently(model: App) -> None:
    async def main() -> list[int]:
        response = model.handle.remote(3)

        async def one() -> int:
            return await response

        together = await asyncio.gather(one(), one(), one())
        return [*together, await response]

    assert asyncio.run(main()) == [3, 3, 3, 3]


def test_result_times_out_and_the_call_goes_on(model: App, gate: Gate, journal: Journal) -> None:
    response = model.handle.wait.remote(gate, journal)
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.2)
    assert not response.cancelled()
    gate.open()
    assert response.result(timeout_s=20) == "through"
    assert journal.lines() == ["started", "finished"]


def test_result_inside_a_running_loop_is_a_runtime_error(model: App) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError):
            model.handle.remote().result(timeout_s=5)

    asyncio.run(main())
    assert model.handle.result_in_loop.remote(model.handle).result(timeout_s=20) == "RuntimeError"


def test_a_response_has_a_request_id(model: App) -> None:
    first, second = model.handle.remote(), model.handle.remote()
    assert isinstance(first.request_id, str)
    assert first.request_id != second.request_id
    assert not first.cancelled()
    first.result(timeout_s=20)
    second.result(timeout_s=20)


def test_a_response_is_an_argument_by_its_value(model: App) -> None:
    handle = model.handle
    assert handle.add.remote(handle.remote(4), second=handle.remote(5)).result(timeout_s=20) == 9
    assert handle.chain.remote(handle).result(timeout_s=20) == 3


def test_the_caller_does_not_wait_for_an_argument(model: App, gate: Gate, journal: Journal) -> None:
    response = model.handle.remote(model.handle.wait.remote(gate, journal))
    journal.wait_for("started")
    gate.open()
    assert response.result(timeout_s=20) == "through"


def test_a_response_inside_a_container_is_refused(model: App) -> None:
    upstream = model.handle.remote(1)
    with pytest.raises(exceptions.RayServeException):
        model.handle.remote([upstream]).result(timeout_s=20)
    upstream.result(timeout_s=20)


def test_an_upstream_failure_surfaces_downstream_which_does_not_run(model: App, journal: Journal) -> None:
    response = model.handle.record.remote(model.handle.fail.remote(), journal)
    with pytest.raises(ValueError, match="upstream"):
        response.result(timeout_s=20)
    assert journal.lines() == []


def test_there_is_no_object_ref(model: App) -> None:
    response = model.handle.options(_by_reference=False).remote(1)
    with pytest.raises(RuntimeError):
        response._to_object_ref_sync()
    assert not response.by_reference
    response.result(timeout_s=20)
