"""Handle calls to a real replica: values, errors, generators, uploads of any size."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.integration.replica.replica_process import replica

from eagleray.base.errors import EaglerayError
from eagleray.wire.remote_error import RemoteError


class MyError(Exception):
    pass


class Service:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.produced = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def sync(self, value: int) -> tuple[int, str]:
        return value + 1, threading.current_thread().name

    async def where(self) -> str:
        return threading.current_thread().name

    def returns_coroutine(self) -> Any:
        return self.where()

    async def raise_it(self, error: Any) -> None:
        raise error

    def raise_in_thread(self, error: Any) -> None:
        raise error

    async def items(self, count: int, size: int = 0) -> AsyncIterator[Any]:
        for i in range(count):
            yield b"x" * size if size else i

    def sync_items(self, count: int, size: int = 0) -> Iterator[Any]:
        for i in range(count):
            yield b"x" * size if size else i

    async def makes_items(self, count: int) -> Iterator[int]:
        return (i for i in range(count))

    def makes_async_items(self, count: int) -> AsyncIterator[int]:
        return self.items(count)

    async def breaks(self) -> AsyncIterator[int]:
        yield 1
        raise MyError("mid")

    def breaks_sync(self) -> Iterator[int]:
        yield 1
        raise MyError("mid")

    async def endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.produced += 1
                yield b"x" * 10_000
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        finally:
            self.log.append("closed")

    def endless_sync(self) -> Iterator[bytes]:
        try:
            while True:
                self.produced += 1
                yield b"x" * 10_000
        finally:
            self.log.append("closed")

    async def state(self) -> tuple[int, list[str]]:
        return self.produced, self.log

    async def unpicklable(self) -> Any:
        return threading.Lock()


def run(work: Any) -> None:
    async def main() -> None:
        async with replica(Service) as r:
            await work(r)
            assert r.ongoing == 0

    asyncio.run(main())


def test_arguments_and_results() -> None:
    async def work(r: Any) -> None:
        assert await r.value("", 1, a=2) == ((1,), {"a": 2})
        assert await r.value("__call__") == ((), {})
        value, thread = await r.value("sync", 1)
        assert value == 2 and thread.startswith("user-") and thread != "user-loop"
        assert await r.value("where") == await r.value("returns_coroutine") == "user-loop"
        big = b"b" * 3_000_000
        assert await r.value("", big) == ((big,), {})

    run(work)


@pytest.mark.parametrize("method", ["raise_it", "raise_in_thread"])
def test_errors_are_raised_as_what_they_were(method: str) -> None:
    async def work(r: Any) -> None:
        with pytest.raises(MyError) as caught:
            await r.value(method, MyError("why", 3))
        assert isinstance(caught.value, RemoteError) and caught.value.args == ("why", 3)
        text = str(caught.value)
        assert f"in {method}" in text and "test_python.py" in text and "eagleray/replica" not in text
        for error in (
            SystemExit(3),
            KeyboardInterrupt(),
            GeneratorExit(),
            BaseException("b"),
            StopIteration(5),
        ):
            with pytest.raises(RemoteError, match=type(error).__name__):
                await r.value(method, error)
        call = r.python(method, asyncio.CancelledError())
        await call.done.wait()
        assert call.error.code == "cancelled"

    run(work)


def test_misuse_is_explained() -> None:
    async def work(r: Any) -> None:
        with pytest.raises(
            EaglerayError, match=r"no method 'nope'. Available methods: \['__call__', 'breaks'"
        ):
            await r.value("nope")
        with pytest.raises(TypeError, match="positional argument"):
            await r.value("sync")
        for method in ("items", "sync_items", "makes_items", "makes_async_items"):
            with pytest.raises(TypeError, match=r"handle.options\(stream=True\)"):
                await r.value(method, 3)
        for method in ("sync", "__call__"):
            call = r.python(method, 3, stream=True)
            await call.done.wait()
            with pytest.raises(TypeError, match="not a generator"):
                call.value()
        with pytest.raises(Exception, match="result"):
            await r.value("unpicklable")

    run(work)


@pytest.mark.parametrize("method", ["items", "sync_items", "makes_items", "makes_async_items"])
def test_streams(method: str) -> None:
    async def work(r: Any) -> None:
        for count in (0, 1, 500):
            call = r.python(method, count, stream=True)
            await call.done.wait()
            assert call.error is None and call.items() == list(range(count))

    run(work)


@pytest.mark.parametrize("method", ["items", "sync_items"])
def test_a_long_stream_flows_under_credit(method: str) -> None:
    async def work(r: Any) -> None:
        call = r.python(method, 60, 100_000, stream=True)
        await call.done.wait()
        assert [len(item) for item in call.items()] == [100_000] * 60

    run(work)


@pytest.mark.parametrize("method", ["breaks", "breaks_sync"])
def test_an_error_in_a_stream_comes_after_its_items(method: str) -> None:
    async def work(r: Any) -> None:
        call = r.python(method, stream=True)
        await call.done.wait()
        assert call.items() == [1]
        with pytest.raises(MyError, match="mid"):
            call.value()

    run(work)


@pytest.mark.parametrize("method", ["endless", "endless_sync"])
def test_a_slow_reader_stops_the_generator_and_cancel_ends_it(method: str) -> None:
    async def work(r: Any) -> None:
        call = r.python(method, stream=True, credit=False)
        while sum(map(len, call.chunks)) < 1_000_000:
            call.changed.clear()
            await call.changed.wait()
        produced = -1
        while produced != (produced := (await r.value("state"))[0]):
            pass
        assert 100 <= produced <= 125
        call.stream.cancel()
        await call.done.wait()
        assert call.error.code == "cancelled" and call.answers == 1
        log = (await r.value("state"))[1]
        assert log == (["cancelled", "closed"] if method == "endless" else ["closed"])

    run(work)


def test_function_deployments_take_calls() -> None:
    def double(value: int) -> int:
        return 2 * value

    async def main() -> None:
        async with replica(double) as r:
            assert await r.value("", 4) == 8
            assert await r.value("other", 4) == 8

    asyncio.run(main())
