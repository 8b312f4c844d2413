"""Surface 2.1 and 2.6: `choose_replica`, `dispatch` and `broadcast`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from tests.compat.impl import IN_PROCESS, App, Instance, differs, exceptions, needs_processes, serve
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until


def tag() -> str:
    return str(serve.get_replica_context().replica_tag)


@serve.deployment(num_replicas=2, max_ongoing_requests=5)
class Who:
    """Says which replica it is."""

    async def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        return [tag(), *args, kwargs]

    async def items(self, count: int) -> AsyncIterator[list[Any]]:
        for number in range(count):
            yield [tag(), number]

    async def wait(self, gate: Gate) -> str:
        await gate.passed()
        return tag()

    async def note(self, journal: Journal, line: str) -> None:
        journal.write(line)

    async def fail(self) -> None:
        raise KeyError("on purpose")


@serve.deployment(num_replicas=1, max_ongoing_requests=1, max_queued_requests=1)
class Narrow:
    """Remembers in which order calls came."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.order.append(name)
        return self.order

    async def wait(self, gate: Gate, journal: Journal) -> None:
        journal.write("waits")
        await gate.passed()


@serve.deployment
class Asks:
    def __init__(self, who: Any) -> None:
        self.who = who

    async def __call__(self) -> tuple[list[Any], list[Any]]:
        async with self.who.choose_replica() as selection:
            chosen = [selection.replica_id, 1, {}]
            assert await self.who.dispatch(selection, 1) == chosen
        return chosen, await self.who.broadcast("__call__", 2).results_async(timeout_s=20)


@pytest.fixture(scope="module")
def who(instance: Instance) -> App:
    app = instance.run(Who.bind(), name="who")
    if not IN_PROCESS:
        wait_until(lambda: len({app.call()[0] for _ in range(8)}) == 2, "both replicas")
    return app


@pytest.fixture
def narrow(instance: Instance) -> App:
    return instance.run(Narrow.bind())


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main, 30)

    return asyncio.run(limited())


# ---- choose_replica and dispatch -------------------------------------------------------------------------------


@needs_processes
def test_a_call_runs_where_it_was_chosen_to(who: App) -> None:
    async def main() -> None:
        for number in range(10):
            async with who.handle.choose_replica() as selection:
                response = who.handle.dispatch(selection, number, key="value")
                assert await response == [selection.replica_id, number, {"key": "value"}]

    run(main())


@needs_processes
def test_method_and_stream_are_those_of_the_choice(who: App) -> None:
    async def main() -> None:
        async with who.handle.options(method_name="items", stream=True).choose_replica() as selection:
            found = [item async for item in who.handle.dispatch(selection, 3)]
            assert found == [[selection.replica_id, number] for number in range(3)]

    run(main())


@needs_processes
def test_arguments_may_be_responses(who: App) -> None:
    async def main() -> None:
        async with who.handle.choose_replica() as selection:
            first = who.handle.remote("first")
            found = await who.handle.dispatch(selection, first)
            assert found[0] == selection.replica_id and found[1][1] == "first"

    run(main())


@needs_processes
def test_a_selection_says_which_replica_it_is(who: App) -> None:
    async def main() -> None:
        async with who.handle.choose_replica() as selection:
            found = selection.to_dict()
            assert found["replica_id"] == selection.replica_id and found["replica_metadata"] == {}
            assert set(found) == {
                "replica_id",
                "node_ip",
                "port",
                "node_id",
                "availability_zone",
                "replica_metadata",
            }
            assert selection.address.startswith(selection.node_ip)

    run(main())


@needs_processes
def test_a_selection_is_good_for_one_call_in_its_block(who: App) -> None:
    async def main() -> None:
        async with who.handle.choose_replica() as selection:
            await who.handle.dispatch(selection)
            with pytest.raises(RuntimeError):
                await who.handle.dispatch(selection)
        async with who.handle.choose_replica() as selection:
            pass
        with pytest.raises(RuntimeError):
            await who.handle.dispatch(selection)

    run(main())


@needs_processes
def test_a_selection_is_for_its_deployment(who: App, narrow: App) -> None:
    async def main() -> None:
        async with who.handle.choose_replica() as selection:
            with pytest.raises(ValueError):
                narrow.handle.dispatch(selection)

    run(main())


@needs_processes
def test_a_chosen_slot_is_kept_until_it_is_used(narrow: App) -> None:
    async def main() -> None:
        async with narrow.handle.choose_replica() as selection:
            other = narrow.handle.remote("other")
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(other.result, timeout_s=0.3)
            assert await narrow.handle.dispatch(selection, "mine") == ["mine"]
        assert await other == ["mine", "other"]

    run(main())


@needs_processes
@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
def test_a_block_without_dispatch_gives_the_slot_back(narrow: App, how: str) -> None:
    async def choose(inside: Any) -> None:
        async with narrow.handle.choose_replica():
            inside.set()
            if how == "raise":
                raise KeyError("on purpose")
            if how == "cancel":
                await asyncio.Event().wait()

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.ensure_future(choose(inside))
        await inside.wait()
        if how == "cancel":
            task.cancel()
        await asyncio.wait([task])
        assert await narrow.handle.remote("next") == ["next"]

    run(main())


# ---- broadcast -------------------------------------------------------------------------------------------------


@needs_processes
def test_a_broadcast_reaches_every_replica(who: App) -> None:
    found = who.handle.broadcast("__call__", 1, key=2).results(timeout_s=20)
    assert len({replica for replica, *_ in found}) == 2
    assert all(rest == [1, {"key": 2}] for _, *rest in found) and len(found) == 2


@needs_processes
def test_a_broadcast_of_a_response(who: App) -> None:
    found = who.handle.broadcast("__call__", who.handle.remote("first")).results(timeout_s=20)
    assert [argument[1] for _, argument, _ in found] == ["first"] * 2


@needs_processes
def test_replicas_may_choose_and_broadcast_too(instance: Instance) -> None:
    chosen, found = instance.run(Asks.bind(Who.bind())).call()
    assert len({replica for replica, *_ in found}) == 2
    assert chosen[0] in {replica for replica, *_ in found}


def test_exceptions_are_raised_or_returned(who: App) -> None:
    response = who.handle.broadcast("fail")
    with pytest.raises(KeyError, match="on purpose"):
        response.results(timeout_s=20)
    found = who.handle.broadcast("fail").results(timeout_s=20, return_exceptions=True)
    assert found and all(isinstance(error, KeyError) for error in found)


def test_a_missing_method_fails(who: App) -> None:
    with pytest.raises(exceptions.RayServeException, match="nowhere"):
        who.handle.broadcast("nowhere").results(timeout_s=20)


def test_results_that_take_too_long(who: App, new_gate: Any) -> None:
    gate = new_gate()
    with pytest.raises(TimeoutError):
        who.handle.broadcast("wait", gate).results(timeout_s=0.3)
    with pytest.raises(TimeoutError):
        asyncio.run(who.handle.broadcast("wait", gate).results_async(timeout_s=0.3))


def test_time_outs_must_make_sense(who: App) -> None:
    with pytest.raises(ValueError):
        who.handle.broadcast("__call__").results(timeout_s=-1)
    with pytest.raises(ValueError):
        asyncio.run(who.handle.broadcast("__call__").results_async(timeout_s=-1))


def test_results_do_not_block_a_loop(who: App) -> None:
    async def main() -> None:
        response = who.handle.broadcast("__call__")
        with pytest.raises(RuntimeError):
            response.results()
        assert await response.results_async(timeout_s=20)

    run(main())


@needs_processes
def test_no_limit_of_the_queue_counts_a_broadcast(narrow: App, gate: Gate, journal: Journal) -> None:
    running = narrow.handle.wait.remote(gate, journal)
    journal.wait_for("waits")
    queued = narrow.handle.remote("queued")
    with pytest.raises(exceptions.BackPressureError):
        narrow.handle.remote("refused").result(timeout_s=20)
    response = narrow.handle.broadcast("__call__", "broadcast")
    with pytest.raises(TimeoutError):
        response.results(timeout_s=0.3)
    gate.open()
    running.result(timeout_s=20)
    assert set(queued.result(timeout_s=20)) <= {"queued", "broadcast"}
    assert response.results(timeout_s=20)


@differs("broadcast-at-once")
def test_a_broadcast_is_sent_whether_or_not_its_results_are_asked_for(who: App, journal: Journal) -> None:
    who.handle.broadcast("note", journal, "noted")
    journal.wait_for("noted")


def test_results_may_be_asked_for_again(who: App, gate: Gate) -> None:
    response = who.handle.broadcast("wait", gate)
    with pytest.raises(TimeoutError):
        response.results(timeout_s=0.1)
    with pytest.raises(TimeoutError):
        asyncio.run(response.results_async(timeout_s=0.1))
    gate.open()
    found = response.results(timeout_s=20)
    assert found == response.results() == asyncio.run(response.results_async())
