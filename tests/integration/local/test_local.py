"""Local testing mode: applications in the test's own process, isolated from one another, with nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import Depends, FastAPI
from starlette.responses import StreamingResponse

from eagleray import serve
from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.serve.context import process
from eagleray.testing import LocalClient

api = FastAPI()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread, descriptor or process-wide state outlives `serve.shutdown()`, and no child process ever exists."""
    threads = set(threading.enumerate())
    yield
    serve.shutdown()
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # threads of sync methods are told to end, and are not waited for
    assert set(threading.enumerate()) <= threads
    assert process.runtime is None and process.find_runtime is None
    with pytest.raises(NotRunningError):
        LocalClient().get("/")


def run(app: Any, name: str = "default", **options: Any) -> Any:
    return serve.run(app, name=name, _local_testing_mode=True, **options)


def overridable() -> str:
    return "original"


@serve.deployment
@serve.ingress(api)
class Views:
    def __init__(self, word: str) -> None:
        self.word = word

    @api.get("/word")
    def get(self, what: str = Depends(overridable)) -> list[str]:
        return [self.word, what, serve.get_replica_context().app_name]


def test_instances_do_not_share_their_fastapi_views() -> None:
    run(Views.bind("one"), "one", route_prefix="/one")
    run(Views.bind("two"), "two", route_prefix="/two")
    client = LocalClient()
    assert client.get("/one/word").json() == ["one", "original", "one"]
    assert client.get("/two/word").json() == ["two", "original", "two"]
    api.dependency_overrides[overridable] = lambda: "overridden"
    try:
        assert client.get("/two/word").json()[1] == "overridden"
    finally:
        api.dependency_overrides.clear()
    parameters = client.get("/one/openapi.json").json()["paths"]["/word"]["get"].get("parameters", [])
    assert parameters == []
    assert client.get("/one/docs").status_code == 200
    run(Views.bind("again"), "one", route_prefix="/one")
    assert client.get("/one/word").json()[0] == "again"
    serve.shutdown()
    run(Views.bind("fresh"))
    assert client.get("/word").json()[0] == "fresh"


def test_the_very_class_is_used_and_its_objects_are_ended_once() -> None:
    events: list[str] = []

    @serve.deployment
    class Recording:
        def __init__(self, name: str) -> None:
            self.name = name
            events.append(f"+{name}")

        async def __call__(self, value: Any) -> Any:
            events.append(f"{self.name} {value}")
            return value

        def __del__(self) -> None:
            events.append(f"-{self.name}")

    first = run(Recording.bind("a"), "a", route_prefix=None)
    second = run(Recording.bind("b"), "b", route_prefix=None)
    assert (first.remote(1).result(), second.remote(2).result()) == (1, 2)
    serve.delete("a")
    assert events == ["+a", "+b", "a 1", "b 2", "-a"]
    run(Recording.bind("c"), "b", route_prefix=None)
    assert events[5:] == ["+c", "-b"]
    serve.shutdown()
    del first, second
    gc.collect()
    assert events[7:] == ["-c"]


def test_arguments_and_results_are_copies() -> None:
    @serve.deployment
    class Keeping:
        def __init__(self, bound: list[int]) -> None:
            self.bound = bound

        def __call__(self, given: list[int]) -> list[int]:
            given.append(1)
            self.bound.append(1)
            return self.bound

    bound: list[int] = []
    given: list[int] = []
    handle = run(Keeping.bind(bound))
    result = handle.remote(given).result()
    assert (bound, given, result) == ([], [], [1])
    assert handle.remote(given).result() == [1, 1] and result == [1]
    with pytest.raises(EaglerayError, match="argument 0"):
        handle.remote(threading.Lock())


@serve.deployment
class Leaf:
    @serve.batch(max_batch_size=3, batch_wait_timeout_s=5)
    async def batched(self, items: list[int]) -> list[tuple[int, int]]:
        return [(item, len(items)) for item in items]

    async def stream(self, count: int) -> AsyncIterator[Any]:
        for number in range(count):
            yield number

    def name(self) -> str:
        return serve.get_replica_context().deployment

    async def fails(self) -> None:
        raise ValueError("leaf")


@serve.deployment
class Root:
    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf
        self.name_at_start = leaf.name.remote().result(timeout_s=10) if not _on_loop() else ""

    async def __call__(self, text: str = "") -> Any:
        async def items() -> AsyncIterator[str]:
            async for item in self.leaf.options(stream=True).stream.remote(3):
                yield f"{item};"

        return StreamingResponse(items()) if text == "stream" else text

    async def gathered(self) -> Any:
        return await asyncio.gather(*(self.leaf.batched.remote(number) for number in range(3)))

    async def names(self) -> Any:
        here = serve.get_replica_context().deployment
        handle = serve.get_deployment_handle("Leaf")
        return here, await self.leaf.name.remote(), await handle.name.remote(), self._in_thread()

    def _in_thread(self) -> str:
        return serve.get_replica_context().deployment

    def sync_names(self) -> Any:
        return serve.get_replica_context().deployment, self.leaf.name.remote().result(timeout_s=10)

    async def fails(self) -> None:
        await self.leaf.fails.remote()


def _on_loop() -> bool:
    return asyncio._get_running_loop() is not None


def test_composition_streams_batches_and_contexts() -> None:
    root = run(Root.bind(Leaf.bind()))
    assert root.gathered.remote().result() == [(0, 3), (1, 3), (2, 3)]
    assert root.names.remote().result() == ("Root", "Leaf", "Leaf", "Root")
    assert root.sync_names.remote().result() == ("Root", "Leaf")
    with pytest.raises(ValueError, match="leaf"):
        root.fails.remote().result()
    client = LocalClient()
    assert client.get("/", params={"text": "stream"}).text == "0;1;2;"
    assert client.post("/", content="plain").text == "plain"
    assert client.get("/-/routes").json() == {"/": "default"}
    assert "Root" in client.get("/-/schema/default").text
    with pytest.raises(EaglerayError, match="within a replica"):
        serve.get_replica_context()
    assert serve.get_app_handle("default").gathered.remote().result()[0] == (0, 3)
    assert [*serve.status().applications["default"].deployments] == ["Root", "Leaf"]
    with pytest.raises(KeyError):
        serve.get_deployment_handle("Nobody", "default")


def test_large_values_and_streams_with_back_pressure() -> None:
    made: list[int] = []

    @serve.deployment
    class Large:
        def __call__(self, array: Any) -> Any:
            return array * 2

        async def stream(self) -> AsyncIterator[bytes]:
            for number in range(200):
                made.append(number)
                yield bytes(100_000)

    handle = run(Large.bind())
    array = np.arange(2_000_000)
    np.testing.assert_array_equal(handle.remote(array).result(), array * 2)
    items = handle.options(stream=True).stream.remote()
    assert len(next(items)) == 100_000
    assert len(made) < 60, "the producer waits for a reader that does not read"
    assert sum(1 for _ in items) == 199


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_constructors_find_other_applications() -> None:
    @serve.deployment
    class Finds:
        def __init__(self) -> None:
            self.modern = serve.get_app_handle("leaf")
            self.old = serve.get_deployment("leaf").get_handle()

        async def __call__(self) -> list[Any]:
            return [await self.modern.remote(), await self.old.remote()]

    run(serve.deployment(overridable).bind(), "leaf", route_prefix="/leaf")
    assert run(Finds.bind()).remote().result() == ["original", "original"]
    with pytest.raises(NotImplementedError, match="local testing mode"):
        serve.get_deployment("leaf").options(num_replicas=2).deploy()


def test_what_cannot_start_leaves_the_former_application_alone() -> None:
    @serve.deployment
    class Model:
        def __init__(self, fails: bool, child: Any = None) -> None:
            if fails:
                raise ValueError("no such model")

        def __call__(self) -> str:
            return "works"

    run(Model.bind(False))
    with pytest.raises(RuntimeError, match=r"Deploying application default failed:[^$]*no such model"):
        run(Model.bind(True, Leaf.bind()))
    with pytest.raises(EaglerayError, match='Prefix / is being used by application "default"'):
        run(Model.bind(False), "other")
    with pytest.raises(RuntimeError):
        run(Model.bind(True), "third", route_prefix="/third")
    assert LocalClient().get("/").text == "works"
    assert [*serve.status().applications] == ["default"]
    assert LocalClient().get("/third").text == "works", "there is no route of the failed one"


def test_the_environment_can_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGLERAY_LOCAL_TESTING_MODE", "1")
    serve.start(http_options={"root_path": "/outer", "port": 1})
    run_plain = serve.run(Leaf.bind(), route_prefix="/leaf")
    assert run_plain.name.remote().result() == "Leaf"
    paths = LocalClient().get("/-/schema/default").json()["paths"]
    assert list(paths) == ["/outer/leaf"]


SCRIPT = """
import os, sys
from eagleray import serve
from eagleray.testing import LocalClient

@serve.deployment
class Script:
    def __call__(self, x: int) -> int:
        return x + 1
    def __del__(self):
        print("ended", flush=True)

handle = serve.run(Script.bind(), _local_testing_mode=True)
print(handle.remote(1).result(), LocalClient().get("/?x=2").text, flush=True)
if os.fork() == 0:
    assert not handle.is_initialized
    os._exit(0)
os.wait()
"""


def test_a_script_that_just_ends() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert (result.stdout.split(), result.stderr, result.returncode) == (["2", "3", "ended"], "", 0)
    assert os.path.exists("/proc/self")


@serve.deployment
class Single:
    async def __call__(self, value: int) -> int:
        return value


def test_there_is_one_replica_to_broadcast_to_and_none_to_choose() -> None:
    handle = run(Single.bind())
    assert handle.broadcast("__call__", 3).results(timeout_s=10) == [3]

    async def choose() -> None:
        async with handle.choose_replica():
            pass

    with pytest.raises(NotImplementedError, match="local testing mode"):
        asyncio.run(choose())
