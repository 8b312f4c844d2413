"""Surface 1.16: the hooks of user classes, and where user code runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.impl import Instance, differs, exceptions, needs_processes, serve
from tests.compat.world import Gate, Journal


def test_an_async_constructor_is_awaited(instance: Instance) -> None:
    @serve.deployment
    class Model:
        async def __init__(self, value: int) -> None:
            await asyncio.sleep(0)
            self.value = value

        def __call__(self) -> int:
            return self.value

    assert instance.run(Model.bind(7)).call() == 7


@pytest.mark.parametrize("is_async", [False, True])
def test_reconfigure_follows_the_constructor(instance: Instance, is_async: bool) -> None:
    class Sync:
        def __init__(self) -> None:
            self.seen = ["init"]

        def reconfigure(self, config: dict[str, int]) -> None:
            self.seen.append(f"reconfigure {config['a']}")

        def __call__(self) -> list[str]:
            return self.seen

    class Async(Sync):
        async def reconfigure(self, config: dict[str, int]) -> None:
            self.seen.append(f"reconfigure {config['a']}")

    model = serve.deployment(Async if is_async else Sync)
    assert instance.run(model.options(user_config={"a": 5}).bind()).call() == ["init", "reconfigure 5"]


def test_reconfigure_is_not_called_without_a_user_config(instance: Instance, journal: Journal) -> None:
    @serve.deployment
    class Model:
        def reconfigure(self, config: Any) -> None:
            journal.write("reconfigure")

        def __call__(self) -> str:
            return "up"

    assert instance.run(Model.bind()).call() == "up"
    assert journal.lines() == []


@needs_processes
def test_a_user_config_needs_reconfigure(instance: Instance) -> None:
    @serve.deployment(user_config={"a": 1}, max_constructor_retry_count=1)
    class Model:
        def __call__(self) -> str:
            return "up"

    with pytest.raises(RuntimeError):
        instance.run(Model.bind(), name="no-reconfigure")
    message = serve.status().applications["no-reconfigure"].deployments["Model"].message
    assert "reconfigure" in message


def test_a_function_takes_no_user_config(instance: Instance) -> None:
    @serve.deployment(user_config={"a": 1}, max_constructor_retry_count=1)
    def function() -> str:
        return "up"

    with pytest.raises((RuntimeError, ValueError)):
        instance.run(function.bind())


@pytest.mark.parametrize("is_async", [False, True])
def test_del_runs_once_when_a_replica_stops(instance: Instance, journal: Journal, is_async: bool) -> None:
    class Sync:
        def __call__(self) -> str:
            return "up"

        def __del__(self) -> None:
            journal.write("del")

    class Async:
        def __call__(self) -> str:
            return "up"

        async def __del__(self) -> None:
            await asyncio.sleep(0)
            journal.write("del")

    model = serve.deployment(graceful_shutdown_wait_loop_s=0.1)(Async if is_async else Sync)
    app = instance.run(model.bind())
    assert app.call() == "up"
    serve.delete(app.name)
    journal.wait_for("del")
    assert journal.lines() == ["del"]


def test_an_exception_in_del_hinders_nothing(instance: Instance) -> None:
    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    class Model:
        def __call__(self) -> str:
            return "up"

        def __del__(self) -> None:
            raise ValueError("in __del__")

    app = instance.run(Model.bind())
    serve.delete(app.name)
    assert app.name not in serve.status().applications


@needs_processes
def test_check_health_is_called_again_and_again(instance: Instance, journal: Journal) -> None:
    @serve.deployment(health_check_period_s=0.2)
    class Model:
        async def check_health(self) -> None:
            journal.write("check")

        def __call__(self) -> str:
            return "up"

    instance.run(Model.bind())
    journal.wait_for("check", count=3)


def test_sync_methods_run_side_by_side(instance: Instance, journal: Journal, gate: Gate) -> None:
    @serve.deployment(max_ongoing_requests=3)
    class Model:
        def __call__(self) -> int:
            journal.write("in")
            gate.passed_sync()
            return threading.get_ident()

        async def asynchronous(self) -> int:
            return threading.get_ident()

    app = instance.run(Model.bind())
    responses = [app.handle.remote() for _ in range(2)]
    journal.wait_for("in", count=2)
    on_loop = app.handle.asynchronous.remote().result(timeout_s=20)  # not blocked by them
    gate.open()
    threads = {response.result(timeout_s=20) for response in responses}
    assert len(threads) == 2
    assert on_loop not in threads


def test_async_methods_share_one_thread_with_the_constructor(instance: Instance) -> None:
    @serve.deployment
    class Model:
        async def __init__(self) -> None:
            self.threads = {threading.get_ident()}

        async def __call__(self) -> int:
            self.threads.add(threading.get_ident())
            return len(self.threads)

    app = instance.run(Model.bind())
    assert [app.call(), app.call()] == [1, 1]


def test_a_class_without_call_answers_its_other_methods(instance: Instance) -> None:
    @serve.deployment
    class Model:
        def score(self, value: int) -> int:
            return value + 1

    app = instance.run(Model.bind())
    assert app.handle.score.remote(1).result(timeout_s=20) == 2
    with pytest.raises(exceptions.RayServeException, match="score"):
        app.call(1)
    assert app.get().status == 500


@differs("predict")
def test_a_class_that_has_only_predict_is_served_by_it(instance: Instance) -> None:
    @serve.deployment
    class Model:
        def predict(self, request: Any) -> str:
            return "predicted"

    app = instance.run(Model.bind())
    assert app.get().text == "predicted"
    assert app.call(1) == "predicted"


def test_class_and_static_methods_and_inheritance(instance: Instance) -> None:
    class Base:
        def inherited(self) -> str:
            return "inherited"

        def __call__(self) -> str:
            return "base"

    @serve.deployment
    class Model(Base):
        @classmethod
        def of_class(cls) -> str:
            return "class"

        @staticmethod
        def static(value: int) -> int:
            return value

    app = instance.run(Model.bind())
    assert app.call() == "base"
    assert app.handle.inherited.remote().result(timeout_s=20) == "inherited"
    assert app.handle.of_class.remote().result(timeout_s=20) == "class"
    assert app.handle.static.remote(3).result(timeout_s=20) == 3


@needs_processes
def test_the_environment_variables_of_runtime_env(instance: Instance) -> None:
    @serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"COMPAT_COLOUR": "green"}}})
    class Model:
        def __init__(self) -> None:
            import os

            self.colour = os.environ["COMPAT_COLOUR"]

        def __call__(self) -> str:
            return self.colour

    assert instance.run(Model.bind()).call() == "green"


@needs_processes
def test_a_blocked_constructor_does_not_block_other_applications(
    instance: Instance, new_gate: Callable[[], Gate]
) -> None:
    gate = new_gate()

    @serve.deployment
    class Slow:
        def __init__(self) -> None:
            gate.passed_sync()

        def __call__(self) -> str:
            return "slow"

    @serve.deployment
    def quick() -> str:
        return "quick"

    [slow] = serve.run_many(
        [serve.RunTarget(Slow.bind(), name="slow", route_prefix="/slow")], wait_for_applications_running=False
    )
    assert instance.run(quick.bind()).call() == "quick"
    assert serve.status().applications["slow"].status == "DEPLOYING"
    gate.open()
    assert slow.remote().result(timeout_s=20) == "slow"
