"""`@serve.multiplexed`: loads are shared and run side by side, models stay while in use, `__del__` runs once."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from eagleray import serve
from eagleray.base.errors import EaglerayError
from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.serve import context
from eagleray.serve.context import (
    ReplicaContext,
    RequestContext,
    _serve_batch_request_context,
    _serve_request_context,
)
from eagleray.serve.finalize import finalize
from eagleray.serve.multiplex import ModelHost, declares_models

Main = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def replica() -> Iterator[ReplicaContext]:
    replica = ReplicaContext(ReplicaID("abcdefgh", DeploymentID("D", "app")))
    context.install(None, replica)
    yield replica
    context.install(None, None)


class Model:
    def __init__(self, model_id: str, deleted: list[str]) -> None:
        self.model_id = model_id
        self.deleted = deleted

    def __del__(self) -> None:
        self.deleted.append(self.model_id)


class Loader:
    """A deployment of two models whose loads wait until the test lets them go."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.deleted: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def gate(self, model_id: str) -> asyncio.Event:
        return self.gates.setdefault(model_id, asyncio.Event())

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, model_id: str) -> Model:
        self.loads.append(model_id)
        await self.gate(model_id).wait()
        if model_id.startswith("bad"):
            raise ValueError(model_id)
        return Model(model_id, self.deleted)


class Request:
    """A request that gets models and runs until it is ended."""

    def __init__(self, loader: Any, *model_ids: str) -> None:
        self.context = RequestContext("r", children=set())
        self.models: list[Any] = []
        self._end = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(loader, model_ids))

    async def _run(self, loader: Any, model_ids: tuple[str, ...]) -> None:
        token = _serve_request_context.set(self.context)
        try:
            for model_id in model_ids:
                self.models.append(await loader.get(model_id))
            await self._end.wait()
        finally:
            _serve_request_context.reset(token)
            self.context.finish()
            self.context.release()
            self.models.clear()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_many_who_want_one_model_share_its_load() -> None:
    async def main() -> None:
        loader = Loader()
        requests = [Request(loader, "a") for _ in range(5)]
        await until(lambda: loader.loads)
        loader.gate("a").set()
        await until(lambda: all(request.models for request in requests))
        assert loader.loads == ["a"]
        assert len({id(request.models[0]) for request in requests}) == 1
        for request in requests:
            await request.end()

    asyncio.run(main())


def test_loads_of_different_models_run_side_by_side_and_a_third_waits_for_a_place() -> None:
    async def main() -> None:
        loader = Loader()
        a, b, c = (Request(loader, model_id) for model_id in "abc")
        await until(lambda: loader.loads == ["a", "b"])
        for model_id in "abc":
            loader.gate(model_id).set()
        await until(lambda: a.models and b.models)
        assert not c.models and loader.deleted == []
        await b.end()
        await until(lambda: c.models)
        assert loader.deleted == ["b"], "`__del__` has run before the next model loads"
        assert loader.loads == ["a", "b", "c"]
        await a.end()
        await c.end()

    asyncio.run(main())


def test_the_least_recently_used_model_goes() -> None:
    async def main() -> None:
        loader = Loader()
        for model_id in "abc":
            loader.gate(model_id).set()
        for model_id in ("a", "b", "a", "c"):
            request = Request(loader, model_id)
            await until(lambda: request.models)  # noqa: B023
            await request.end()
        assert loader.deleted == ["b"]
        assert loader.loads == ["a", "b", "c"]

    asyncio.run(main())


def test_a_failing_load_fails_those_who_wait_for_it_and_keeps_nothing() -> None:
    async def main() -> None:
        loader = Loader()
        requests = [Request(loader, "bad") for _ in range(2)]
        other = Request(loader, "a")
        for model_id in ("a", "bad"):
            loader.gate(model_id).set()
        for request in requests:
            with pytest.raises(ValueError, match="bad"):
                await request.task
        await until(lambda: other.models)
        again = Request(loader, "bad")
        with pytest.raises(ValueError, match="bad"):
            await again.task
        assert loader.loads.count("bad") == 2
        await other.end()

    asyncio.run(main())


def test_a_cancelled_caller_leaves_the_load_to_the_others() -> None:
    async def main() -> None:
        loader = Loader()
        first, second = Request(loader, "a"), Request(loader, "a")
        await until(lambda: loader.loads)
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
        loader.gate("a").set()
        await until(lambda: second.models)
        assert loader.loads == ["a"]
        await second.end()

    asyncio.run(main())


def test_a_load_that_cancels_itself_gives_its_place_to_those_who_wait() -> None:
    begun: list[str] = []
    gate = asyncio.Event()

    class Quitter:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(self, model_id: str) -> str:
            begun.append(model_id)
            if model_id == "quits":
                await gate.wait()
                raise asyncio.CancelledError
            return model_id

    async def main() -> None:
        quitter = Quitter()
        first = asyncio.create_task(quitter.get("quits"))
        await until(lambda: begun)
        second = asyncio.create_task(quitter.get("loads"))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.set()
        assert await asyncio.wait_for(second, 10) == "loads"

    asyncio.run(main())


def test_an_overriding_method_has_models_of_its_own() -> None:
    class Base:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(self, model_id: str) -> str:
            return f"base {model_id}"

    class Derived(Base):
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(self, model_id: str) -> str:
            return f"derived {await super().get(model_id)}"

    async def main() -> None:
        assert await asyncio.wait_for(Derived().get("m"), 10) == "derived base m"

    asyncio.run(main())


def test_an_id_that_cannot_be_told_to_routers_fails_its_own_request() -> None:
    async def main() -> None:
        loader = Loader()
        with pytest.raises(ValueError, match="UTF-8"):
            await loader.get("\ud800")
        loader.gate("b").set()
        assert (await loader.get("b")).model_id == "b"

    asyncio.run(main())


def test_a_request_that_wants_more_models_than_there_are_places_does_not_hang() -> None:
    async def main() -> None:
        loader = Loader()
        for model_id in "abc":
            loader.gate(model_id).set()
        request = Request(loader, "a", "b", "c")
        await until(lambda: len(request.models) == 3)
        await request.end()
        assert loader.deleted == ["a"]

    asyncio.run(main())


def test_closing_unloads_everything_once_and_fails_who_waits(replica: ReplicaContext) -> None:
    async def main() -> None:
        loader = Loader()
        loader.gate("a").set()
        request = Request(loader, "a")
        await until(lambda: request.models)
        waiting = Request(loader, "slow")
        await until(lambda: "slow" in loader.loads)
        host: ModelHost = replica._models
        await host.close()
        assert loader.deleted == ["a"]
        with pytest.raises(EaglerayError, match="slow"):
            await waiting.task
        await request.end()
        gc.collect()
        assert loader.deleted == ["a"], "the interpreter has run it again"

    asyncio.run(main())


def test_del_runs_once_sync_in_a_thread_or_awaited_and_never_again() -> None:
    class Sync:
        ran: list[str] = []  # noqa: RUF012

        def __del__(self) -> None:
            self.ran.append(threading.current_thread().name)

    class Async:
        ran: list[int] = []  # noqa: RUF012

        async def __del__(self) -> None:
            await asyncio.sleep(0)
            self.ran.append(1)

    class Child(Sync):
        def __del__(self) -> None:
            super().__del__()

    async def main() -> None:
        for kind in (Sync, Async, Child):
            model: Any = kind()
            await finalize(model)
            del model
            gc.collect()
            assert len(kind.ran) == 1, kind
            kind.ran.clear()
        assert threading.current_thread().name not in Sync.ran

    asyncio.run(main())
    Sync()  # one that nobody has finalized goes the usual way
    gc.collect()
    assert len(Sync.ran) == 1


def test_a_failing_del_frees_the_place(caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def __del__(self) -> None:
            raise RuntimeError("cannot go")

    class Loads:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get(self, model_id: str) -> Bad:
            return Bad()

    async def main() -> None:
        loads = Loads()
        await loads.get("a")
        assert await loads.get("b")
        await context.process.replica._models.close()  # type: ignore[union-attr]

    asyncio.run(main())
    assert "model 'a' has failed" in caplog.text


def test_changes_are_told_with_what_is_loading(replica: ReplicaContext) -> None:
    async def main() -> None:
        told: list[tuple[list[str], int]] = []
        replica._models = ModelHost(lambda models, free: told.append((models, free)))
        loader = Loader()
        request = Request(loader, "a")
        await until(lambda: loader.loads)
        assert told == [(["a"], 1)]
        loader.gate("a").set()
        loader.gate("b").set()
        await until(lambda: request.models)
        await request.end()
        second = Request(loader, "b")
        await until(lambda: second.models)
        assert told[-1] == (["a", "b"], 0)
        await second.end()

    asyncio.run(main())


def test_sync_code_with_a_loop_of_its_own_may_get_models() -> None:
    async def main() -> None:
        loader = Loader()
        loader.gate("a").set()
        await loader.get("a")
        model = await asyncio.to_thread(lambda: asyncio.run(loader.get("a")))
        assert model.model_id == "a" and loader.loads == ["a"]

    asyncio.run(main())


def test_a_batch_keeps_its_model_until_its_last_request_has_ended() -> None:
    async def main() -> None:
        loader = Loader()
        for model_id in "abc":
            loader.gate(model_id).set()
        requests = [RequestContext("r", children=set()) for _ in range(2)]

        async def body() -> None:
            _serve_request_context.set(RequestContext("r"))
            _serve_batch_request_context.set(requests)
            await loader.get("a")

        await asyncio.create_task(body())
        b = Request(loader, "b")
        await until(lambda: b.models)
        requests[0].release()
        c = Request(loader, "c")
        await b.end()
        await until(lambda: c.models)
        assert loader.deleted == ["b"], "the older one is still in use"
        requests[1].release()
        d = Request(loader, "b")
        await until(lambda: d.models)
        assert loader.deleted == ["b", "a"]
        await c.end()
        await d.end()

    asyncio.run(main())


def test_a_task_that_outlives_its_request_holds_nothing() -> None:
    async def main() -> None:
        loader = Loader()
        request = RequestContext("r", children=set())
        _serve_request_context.set(request)
        late = asyncio.create_task(loader.get("a"))
        await until(lambda: loader.loads)
        request.finish()
        request.release()
        loader.gate("a").set()
        assert (await late).model_id == "a"
        assert not getattr(loader, "_eagleray_models_Loader.get").places.is_pinned("a")

    asyncio.run(main())


def test_functions_have_a_cache_too() -> None:
    loads: list[str] = []

    @serve.multiplexed
    async def get(model_id: str) -> str:
        loads.append(serve.get_multiplexed_model_id())
        return model_id.upper()

    async def main() -> None:
        assert [await get("a"), await get("b"), await get("a")] == ["A", "B", "A"]

    asyncio.run(main())
    assert loads == ["a", "b"], "while it loads, the model's id is the request's"
    assert serve.get_multiplexed_model_id() == ""


@serve.multiplexed
async def load_something(model_id: str) -> str:
    return model_id


def test_what_multiplexes_is_known_before_the_first_call() -> None:
    async def uses() -> str:
        return str(await load_something("a"))

    class Child(Loader):
        pass

    assert declares_models(Child) and declares_models(uses)
    assert not declares_models(Model) and not declares_models(until)


async def one(model_id: str) -> None: ...
async def none() -> None: ...
async def three(self: Any, model_id: str, more: str) -> None: ...
def sync(model_id: str) -> None: ...


@pytest.mark.parametrize("function", [none, three, sync, "text"])
@pytest.mark.parametrize("bare", [True, False])
def test_what_is_no_loading_function_is_refused(function: Any, bare: bool) -> None:
    with pytest.raises(TypeError, match="multiplexed"):
        if bare:
            serve.multiplexed(function)
        else:
            serve.multiplexed(max_num_models_per_replica=1)(function)


@pytest.mark.parametrize(
    ("number", "error"), [("1", TypeError), (1.0, TypeError), (0, ValueError), (-2, ValueError)]
)
def test_a_number_of_models_that_makes_no_sense_is_refused(number: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_num_models_per_replica"):
        serve.multiplexed(one, max_num_models_per_replica=number)


@pytest.mark.parametrize(
    ("args", "error"),
    [((), TypeError), (("a", "b"), TypeError), ((1,), TypeError), (("",), ValueError)],
)
def test_calls_with_something_else_than_an_id_are_refused(
    args: tuple[Any, ...], error: type[Exception]
) -> None:
    for function in (serve.multiplexed(one), Loader().get):
        with pytest.raises(error):
            asyncio.run(function(*args))


def test_outside_a_replica_there_are_no_models() -> None:
    context.install(None, None)
    with pytest.raises(RuntimeError, match="replica"):
        asyncio.run(serve.multiplexed(one)("a"))
