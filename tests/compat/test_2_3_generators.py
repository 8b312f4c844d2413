"""Surface 2.3: `DeploymentResponseGenerator`; section 10 check 20."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.compat.impl import App, Instance, serve
from tests.compat.world import Gate, Journal


@serve.deployment(max_ongoing_requests=20)
class Streamer:
    def sync(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def asynchronous(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            await asyncio.sleep(0)
            yield number

    async def returns_generator(self, count: int) -> Any:
        return self.sync(count)

    async def gated(self, gate: Gate) -> AsyncIterator[str]:
        yield "first"
        await gate.passed()
        yield "last"

    def breaks(self) -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("third")

    async def endless(self, journal: Journal) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.01)
        finally:
            journal.write("closed")

    def plain(self) -> int:
        return 1

    async def relay(self, other: Any, count: int) -> AsyncIterator[int]:
        async for item in other.options(stream=True).asynchronous.remote(count):
            yield item * 10


@pytest.fixture(scope="module")
def streamer(instance: Instance) -> App:
    return instance.run(Streamer.bind(), name="streams")


@pytest.mark.parametrize("method", ["sync", "asynchronous", "returns_generator"])
def test_items_come_in_order(streamer: App, method: str) -> None:
    handle = streamer.handle.options(stream=True, method_name=method)
    assert list(handle.remote(50)) == list(range(50))
    assert list(handle.remote(0)) == []


@pytest.mark.parametrize("method", ["sync", "asynchronous"])
def test_items_can_be_iterated_in_a_loop(streamer: App, method: str) -> None:
    async def main() -> list[int]:
        return [item async for item in streamer.handle.options(stream=True, method_name=method).remote(20)]

    assert asyncio.run(main()) == list(range(20))


def test_an_item_arrives_before_the_next_is_made(streamer: App, gate: Gate) -> None:
    items = iter(streamer.handle.options(stream=True).gated.remote(gate))
    assert next(items) == "first"
    gate.open()
    assert list(items) == ["last"]


def test_an_exception_comes_after_the_items_before_it(streamer: App) -> None:
    items = iter(streamer.handle.options(stream=True).breaks.remote())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(items)


def test_a_generator_method_needs_stream(streamer: App) -> None:
    with pytest.raises(TypeError, match="stream=True"):
        streamer.handle.sync.remote(3).result(timeout_s=20)


def test_stream_needs_a_generator_method(streamer: App) -> None:
    with pytest.raises(TypeError):
        list(streamer.handle.options(stream=True).plain.remote())


def test_a_generator_is_neither_awaited_nor_resulted(streamer: App) -> None:
    stream = streamer.handle.options(stream=True).sync.remote(1)
    with pytest.raises(TypeError):
        stream.result()

    async def main() -> None:
        with pytest.raises(TypeError):
            await stream

    asyncio.run(main())
    assert list(stream) == [0]


def test_sync_iteration_inside_a_loop_is_a_runtime_error(streamer: App) -> None:
    async def main() -> None:
        stream = streamer.handle.options(stream=True).sync.remote(1)
        with pytest.raises(RuntimeError):
            next(iter(stream))
        assert [item async for item in stream] == [0]

    asyncio.run(main())


def test_a_generator_is_no_argument(streamer: App) -> None:
    stream = streamer.handle.options(stream=True).sync.remote(1)
    with pytest.raises(RuntimeError):
        streamer.handle.plain.remote(stream).result(timeout_s=20)
    list(stream)


def test_cancel_closes_the_generator(streamer: App, journal: Journal) -> None:
    stream = streamer.handle.options(stream=True).endless.remote(journal)
    items = iter(stream)
    assert next(items) == 0
    stream.cancel()
    assert stream.cancelled()
    journal.wait_for("closed")


def test_streams_pass_through_deployments(streamer: App) -> None:
    stream = streamer.handle.options(stream=True).relay.remote(streamer.handle, 3)
    assert list(stream) == [0, 10, 20]


def test_many_streams_side_by_side(streamer: App) -> None:
    handle = streamer.handle.options(stream=True, method_name="asynchronous")
    streams = [iter(handle.remote(5)) for _ in range(10)]
    assert [[next(stream) for stream in streams] for _ in range(5)] == [[number] * 10 for number in range(5)]
