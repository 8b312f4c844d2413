"""Surface 2.1: `DeploymentHandle`."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from tests.compat.impl import App, DeploymentHandle, Instance, exceptions, serve


@serve.deployment(name="calc")
class Calculator:
    def __call__(self, value: int = 0, *, plus: int = 1) -> int:
        return value + plus

    async def double(self, value: int) -> int:
        return 2 * value

    def call_other(self, other: Any) -> int:
        """Called with a handle as an argument."""
        return 0 if not isinstance(other, DeploymentHandle) else 1

    async def use(self, other: Any, value: int) -> int:
        return await other.double.remote(value)


@serve.deployment
def triple(value: int) -> int:
    return 3 * value


@pytest.fixture(scope="module")
def calculator(instance: Instance) -> App:
    return instance.run(Calculator.bind(), name="handles")


def test_arguments_pass_as_they_are(calculator: App) -> None:
    assert calculator.call() == 1
    assert calculator.call(4) == 5
    assert calculator.call(4, plus=10) == 14
    assert calculator.call(value=7) == 8


def test_methods_are_attributes_or_an_option(calculator: App) -> None:
    assert calculator.handle.double.remote(4).result(timeout_s=20) == 8
    assert calculator.handle.options(method_name="double").remote(4).result(timeout_s=20) == 8


def test_options_leaves_the_original_alone(calculator: App) -> None:
    derived = calculator.handle.options(method_name="double")
    assert derived is not calculator.handle
    assert calculator.call(4) == 5
    assert derived.options(multiplexed_model_id="").remote(4).result(timeout_s=20) == 8  # accumulates


def test_unknown_options_are_type_errors(calculator: App) -> None:
    with pytest.raises(TypeError):
        calculator.handle.options(unheard_of=1)
    with pytest.raises(TypeError):
        calculator.handle.options("double")


def test_a_missing_method_fails_the_call_and_lists_the_others(calculator: App) -> None:
    response = calculator.handle.nowhere.remote()
    with pytest.raises(exceptions.RayServeException, match="double"):
        response.result(timeout_s=20)


def test_a_function_ignores_the_method_name(instance: Instance) -> None:
    app = instance.run(triple.bind())
    assert app.call(3) == 9
    assert app.handle.whatever.remote(3).result(timeout_s=20) == 9


def test_names_and_text(calculator: App) -> None:
    handle = calculator.handle
    assert (handle.deployment_name, handle.app_name) == ("calc", "handles")
    assert (handle.deployment_id.name, handle.deployment_id.app_name) == ("calc", "handles")
    assert repr(handle) == str(handle) == "DeploymentHandle(deployment='calc')"


def test_a_handle_is_initialised_once(calculator: App) -> None:
    handle = serve.get_deployment_handle("calc", "handles")
    handle._init()
    assert handle.is_initialized
    with pytest.raises(RuntimeError):
        handle._init()
    assert handle.remote(3).result(timeout_s=20) == calculator.call(3)
    assert handle.running_replicas_populated()


def test_a_pickled_handle_works_and_keeps_its_options(calculator: App) -> None:
    copy = pickle.loads(pickle.dumps(calculator.handle.options(method_name="double")))
    assert copy.remote(5).result(timeout_s=20) == 10


def test_a_handle_can_be_an_argument(calculator: App) -> None:
    assert calculator.handle.call_other.remote(calculator.handle).result(timeout_s=20) == 1
    assert calculator.handle.use.remote(calculator.handle, 6).result(timeout_s=20) == 12


def test_handles_work_in_threads_and_loops(calculator: App) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(calculator.call(4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [5] * 4

    async def in_a_loop() -> list[int]:
        return list(await asyncio.gather(*(gather_one(number) for number in range(20))))

    async def gather_one(number: int) -> int:
        return await calculator.handle.remote(number)

    assert asyncio.run(in_a_loop()) == list(range(1, 21))
    assert asyncio.run(in_a_loop()) == list(range(1, 21))  # a second loop


def test_type_arguments_are_accepted() -> None:
    DeploymentHandle[Calculator]


def test_large_values_arrive_whole(calculator: App, instance: Instance) -> None:
    @serve.deployment
    def echo(value: bytes) -> bytes:
        return value

    data = bytes(range(256)) * 20_000
    assert instance.run(echo.bind()).call(data) == data
