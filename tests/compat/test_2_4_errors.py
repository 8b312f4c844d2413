"""Surface 2.4: errors as callers see them; section 10 check 16."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.compat.impl import App, DeploymentHandle, Instance, differs, exceptions, needs_processes, serve


class OwnError(Exception):
    """A user's exception with a constructor of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class Connection:
    """Something that belongs to its process."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle a connection")


@serve.deployment(name="faulty")
class Faulty:
    def divide(self, by: int = 0) -> float:
        return 1 / by

    def own(self) -> None:
        raise OwnError(7, "own")

    async def nested(self, other: Any) -> str:
        try:
            await other.divide.remote()
        except ZeroDivisionError:
            return "caught by its type"
        return "not caught"

    async def let_through(self, other: Any) -> None:
        await other.divide.remote()

    def connection(self) -> Any:
        return Connection()

    def os_error(self) -> None:
        raise FileNotFoundError(2, "No such file", "weights.bin")


@pytest.fixture(scope="module")
def faulty(instance: Instance) -> App:
    return instance.run(Faulty.bind(), name="errors")


def test_an_exception_is_caught_by_its_own_type(faulty: App) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        faulty.handle.divide.remote().result(timeout_s=20)
    assert isinstance(caught.value.cause, ZeroDivisionError)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await faulty.handle.divide.remote()

    asyncio.run(main())


def test_its_text_has_the_remote_frames(faulty: App) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        faulty.handle.divide.remote().result(timeout_s=20)
    assert "division by zero" in str(caught.value)
    assert "in divide" in str(caught.value)
    assert "test_2_4_errors.py" in str(caught.value)


def test_a_users_exception_keeps_its_attributes_in_cause(faulty: App) -> None:
    with pytest.raises(OwnError) as caught:
        faulty.handle.own.remote().result(timeout_s=20)
    assert caught.value.cause.code == 7


def test_builtin_exceptions_with_attributes(faulty: App) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        faulty.handle.os_error.remote().result(timeout_s=20)
    assert caught.value.cause.filename == "weights.bin"


def test_deployments_catch_each_others_exceptions(faulty: App) -> None:
    assert faulty.handle.nested.remote(faulty.handle).result(timeout_s=20) == "caught by its type"


def test_an_exception_passes_through_deployments(faulty: App) -> None:
    with pytest.raises(ZeroDivisionError):
        faulty.handle.let_through.remote(faulty.handle).result(timeout_s=20)


def test_wrong_arguments_are_the_natural_type_error(faulty: App) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        faulty.handle.divide.remote(wrong=1).result(timeout_s=20)


def test_an_unpicklable_result_is_an_error_at_the_caller(faulty: App) -> None:
    with pytest.raises(Exception, match="pickle"):
        faulty.handle.connection.remote().result(timeout_s=20)
    assert faulty.handle.divide.remote(1).result(timeout_s=20) == 1.0


def test_an_unpicklable_argument_is_an_error(faulty: App) -> None:
    with pytest.raises(Exception, match="pickle"):
        faulty.handle.divide.remote(Connection()).result(timeout_s=20)
    assert faulty.handle.divide.remote(1).result(timeout_s=20) == 1.0


@needs_processes
@differs("unavailable-at-once")
def test_a_call_to_what_failed_to_deploy_fails(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("broken")

    with pytest.raises(RuntimeError):
        instance.run(Broken.bind(), name="unavailable")
    handle = serve.get_deployment_handle("Broken", app_name="unavailable")
    with pytest.raises(exceptions.DeploymentUnavailableError) as caught:
        handle.remote().result(timeout_s=5)
    text = "Deployment(name='Broken', app='unavailable') is unavailable because it failed to deploy."
    assert caught.value.message == text


@needs_processes
@differs("delete-while-waiting")
def test_a_call_that_waits_fails_when_its_application_is_deleted(instance: Instance, gate: Any) -> None:
    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    class Slow:
        def __init__(self) -> None:
            gate.passed_sync()

    [handle] = serve.run_many(
        [serve.RunTarget(Slow.bind(), name="vanishing", route_prefix=None)],
        wait_for_applications_running=False,
    )
    response = handle.remote()
    gate.open()
    serve.delete("vanishing")
    with pytest.raises(exceptions.RayServeException):
        response.result(timeout_s=20)


@differs("call-after-delete")
def test_a_call_to_a_deleted_application_fails(instance: Instance) -> None:
    @serve.deployment
    def answer() -> int:
        return 1

    used = instance.run(answer.bind(), name="deleted", route_prefix=None)
    assert used.call() == 1
    serve.delete("deleted")
    for handle in (
        used.handle,
        DeploymentHandle("answer", "deleted"),
        DeploymentHandle("other", "never-deployed"),
    ):
        with pytest.raises(exceptions.DeploymentUnavailableError, match="deleted or never deployed"):
            handle.remote().result(timeout_s=20)
    assert instance.run(answer.bind(), name="deleted", route_prefix=None).call() == 1
    assert used.call() == 1  # the handle is a name
