"""A driver and its instance: nothing is left behind, forks and dead instances are understood, replicas may ask too."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from tests.waiting import wait_until

from eagleray import serve
from eagleray.base.errors import EaglerayError, NotRunningError, ReplicaDiedError, RequestCancelledError
from eagleray.serve import instance
from eagleray.serve.context import process


def mark(path: str, name: str) -> None:
    Path(path, name).touch()


@serve.deployment(max_ongoing_requests=50)
class Echo:
    """Answers with what it got, and reports what it sees from inside."""

    async def __call__(self, value: Any) -> Any:
        return value

    async def look_around(self) -> tuple[str, list[str]]:
        handle = serve.get_app_handle("main")
        same = serve.get_deployment_handle("Echo")
        assert await handle.remote(1) == await same.remote(1) == 1
        return serve.get_replica_context().app_name, list(serve.status().applications)

    def look_around_in_a_thread(self) -> Any:
        return serve.get_app_handle("main").remote("sync").result(timeout_s=10)

    async def hang(self, path: str) -> None:
        mark(path, "begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            mark(path, "ended")
            raise


@serve.deployment
class Parent:
    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, path: str) -> None:
        await self.child.hang.remote(path)


@serve.deployment(max_ongoing_requests=1)
class Narrow:
    async def __call__(self, value: Any) -> Any:
        return value

    async def pid(self) -> int:
        return os.getpid()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True, scope="module")
def libuv_is_there() -> None:
    """libuv opens one pipe for signals with a process's first loop, and keeps it."""
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread, child process, descriptor or runtime directory outlives `serve.shutdown()`."""
    threads = set(threading.enumerate())
    fds = len(os.listdir("/proc/self/fd"))
    yield
    serve.shutdown()
    assert set(threading.enumerate()) == threads
    assert not psutil.Process().children(recursive=True)
    assert len(os.listdir("/proc/self/fd")) == fds
    assert process.runtime is None


@pytest.fixture
def echo() -> Any:
    serve.start(http_options={"port": free_port()})
    return serve.run(Echo.bind(), name="main")


def test_a_second_life_after_shutdown(echo: Any) -> None:
    assert echo.remote(1).result(timeout_s=10) == 1
    found = instance.running()
    assert found is not None and found._node is not None
    runtime_dir = found._node.runtime_dir
    serve.shutdown()
    assert not os.path.exists(runtime_dir)
    assert serve.status() == type(serve.status())()
    with pytest.raises(NotRunningError):
        echo.remote(2)
    with pytest.raises(EaglerayError):
        serve.get_app_handle("main")
    serve.start(http_options={"port": free_port()})
    serve.run(Echo.bind(), name="main")
    assert echo.remote(3).result(timeout_s=10) == 3
    serve.shutdown()
    serve.shutdown()


def test_calls_from_many_threads_and_loops(echo: Any) -> None:
    async def several(number: int) -> list[int]:
        return list(await asyncio.gather(*(echo.remote(number * 100 + item) for item in range(20))))

    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        if number % 2:
            results[number] = asyncio.run(several(number))
        else:
            results[number] = [echo.remote(number * 100 + item).result(timeout_s=10) for item in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number * 100 + item for item in range(20)] for number in range(6)}


def test_no_slot_is_lost_between_threads_cancels_and_a_kill(echo: Any) -> None:
    """With one slot in all, a lost one would leave the last call waiting for ever."""
    narrow = serve.run(Narrow.bind(), name="narrow", route_prefix=None)
    victim = narrow.pid.remote().result(timeout_s=10)

    def work(number: int) -> None:
        for item in range(60):
            response = narrow.remote(item)
            try:
                if item % 7 == number:
                    response.cancel()
                elif item == 30 and not number:
                    os.kill(victim, signal.SIGKILL)
                assert response.result(timeout_s=20) == item
            except (RequestCancelledError, ReplicaDiedError):
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert narrow.remote("last").result(timeout_s=10) == "last"
    assert process.runtime is not None
    router = process.runtime._router
    wait_until(lambda: not router.ongoing("narrow#Narrow") and not router.queued("narrow#Narrow"))


def test_one_response_for_many_waiters(echo: Any) -> None:
    async def main() -> list[Any]:
        response = echo.remote("x")
        first = await asyncio.gather(*(wait(response) for _ in range(5)))
        return [*first, await response, await asyncio.to_thread(response.result)]

    async def wait(response: Any) -> Any:
        return await response

    assert asyncio.run(main()) == ["x"] * 7


def test_replicas_may_use_the_api_from_coroutines_and_threads(echo: Any) -> None:
    assert echo.look_around.remote().result(timeout_s=10) == ("main", ["main"])
    assert echo.look_around_in_a_thread.remote().result(timeout_s=10) == "sync"


def test_cancelling_a_request_cancels_the_calls_below_it(echo: Any, tmp_path: Path) -> None:
    parent = serve.run(Parent.bind(Echo.options(name="child").bind()), name="tree", route_prefix="/tree")
    response = parent.remote(str(tmp_path))
    wait_until((tmp_path / "begun").exists)
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result(timeout_s=10)
    wait_until((tmp_path / "ended").exists)
    assert response.cancelled()


def test_a_timed_out_wait_cancels_the_call(echo: Any, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(echo.hang.remote(str(tmp_path)), 0.2)

    asyncio.run(main())
    wait_until((tmp_path / "ended").exists)


def test_a_result_that_takes_too_long_leaves_the_call_alone(echo: Any, tmp_path: Path) -> None:
    response = echo.hang.remote(str(tmp_path))
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.2)
    assert (tmp_path / "begun").exists() and not (tmp_path / "ended").exists()
    response.cancel()
    wait_until((tmp_path / "ended").exists)


def test_a_value_is_passed_on_without_being_decoded(echo: Any) -> None:
    class OnlyHere:
        """Its instances travel by value, so the way through the driver must not break them."""

        def __reduce__(self) -> Any:
            return os.getpid, ()

    first = echo.remote(OnlyHere())
    pid = first.result(timeout_s=10)
    assert pid != os.getpid(), "decoded in the replica, and its number travels on"
    assert echo.remote(echo.remote([1, 2])).result(timeout_s=10) == [1, 2]
    with pytest.raises(EaglerayError, match="direct"):
        echo.remote([first])


def test_a_fork_of_the_driver_has_no_instance(echo: Any) -> None:
    pid = os.fork()
    if pid == 0:
        serve.shutdown()  # ends nothing: the instance belongs to the parent
        os._exit(0 if instance.running() is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert echo.remote(1).result(timeout_s=10) == 1


def test_a_new_instance_is_started_when_the_old_one_has_been_killed(echo: Any) -> None:
    found = instance.running()
    assert found is not None and found._node is not None
    os.kill(found._node.pid, signal.SIGKILL)
    wait_until(lambda: not found.is_alive)
    with pytest.raises(EaglerayError):
        serve.get_app_handle("main")
    serve.start(http_options={"port": free_port()})
    assert serve.run(Echo.bind(), name="main").remote(2).result(timeout_s=10) == 2


def test_a_port_in_use_is_one_clear_error_and_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EaglerayError, match=f"{port}.*in use"):
            serve.start(http_options={"port": port})
    assert instance.running() is None


def test_a_failing_constructor_raises_with_its_traceback(echo: Any) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no such model")

    with pytest.raises(RuntimeError, match=r"^Deploying application broken failed:") as caught:
        serve.run(Broken.bind(), name="broken", route_prefix="/broken")
    assert "ValueError: no such model" in str(caught.value)
    assert "in __init__" in str(caught.value)
    assert serve.status().applications["broken"].status == "DEPLOY_FAILED"
    assert echo.remote(1).result(timeout_s=10) == 1


def test_wrong_arguments_of_run_start_nothing() -> None:
    with pytest.raises(TypeError, match="bind"):
        serve.run(Echo)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        serve.run(Echo.bind(), route_prefix="no-slash")
    with pytest.raises(EaglerayError):
        serve.run(Echo.bind(), name="")
    with pytest.raises(ValueError):
        serve.run_many([])
    with pytest.raises(ValueError):
        serve.start(http_port=1)
    with pytest.raises(TypeError):
        serve.start(no_such_option=1)
    assert instance.running() is None


def test_what_run_starts_has_its_controller_options() -> None:
    serve.shutdown()
    options = {"runtime_env": {"env_vars": {"CONTROLLED": "yes"}}}
    serve.run(Echo.bind(), name="main", route_prefix=None, controller_options=options)
    try:
        here = instance.running()
        assert here is not None and here._node is not None
        assert here._node.config.controller_env == {"CONTROLLED": "yes"}
    finally:
        serve.shutdown()
    with pytest.raises(ValueError, match="pip"):
        serve.run(Echo.bind(), controller_options={"runtime_env": {"pip": ["x"]}})
