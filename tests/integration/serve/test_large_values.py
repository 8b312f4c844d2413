"""Large values between driver and replicas: whole, read-only, copied at `.remote()`, and their memory comes back."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import uvloop
from tests.integration.serve.test_driver import free_port
from tests.waiting import wait_until

from eagleray import serve
from eagleray.base.errors import ReplicaDiedError
from eagleray.serve.context import process

MB = 1_000_000


def memory() -> tuple[int, int]:
    """Segments of this process that are in use, and that there are."""
    found = process.runtime._memory if process.runtime is not None else None
    assert found is not None
    return found.leased, found.segments


def mapped() -> int:
    """Mappings of memory files in this process, our own and borrowed ones."""
    with open("/proc/self/maps", encoding="ascii") as file:
        return sum("memfd:eagleray" in line for line in file)


def rss_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched:
    """What a test wants to know of a replica."""

    async def state(self) -> tuple[int, int, int, int, float, int]:
        return *memory(), mapped(), len(os.listdir("/proc/self/fd")), rss_mb(), os.getpid()


@serve.deployment(max_ongoing_requests=50)
class Sink(Watched):
    def __init__(self) -> None:
        self.kept: list[Any] = []

    async def echo(self, value: Any) -> Any:
        return value

    def echo_in_a_thread(self, value: Any) -> Any:
        return value

    async def make(self, size: int, fill: int) -> Any:
        return np.full(size, fill, dtype=np.uint8)

    async def describe(self, value: Any, *, other: Any = None) -> tuple[bool, int, int]:
        return value.flags.writeable, int(value[0]), 0 if other is None else int(other[-1])

    async def keep(self, value: Any) -> None:
        self.kept.append(value)

    async def sums(self) -> list[int]:
        return [int(value.sum()) for value in self.kept]

    async def drop(self) -> None:
        self.kept.clear()

    async def fail(self, value: Any) -> None:
        raise ValueError("no")

    async def hang(self, value: Any) -> None:
        await asyncio.Event().wait()


@serve.deployment(max_ongoing_requests=50)
class Entry(Watched):
    def __init__(self, sink: Any) -> None:
        self.sink = sink

    async def relay(self, value: Any) -> Any:
        return await self.sink.echo.remote(value)

    async def pass_on(self, value: Any) -> Any:
        """Two further hops; the value between them is not decoded here."""
        return await self.sink.echo.remote(self.sink.echo.remote(value))


@pytest.fixture(autouse=True, scope="module")
def libuv_is_there() -> None:
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No descriptor, mapping or name in /dev/shm outlives `serve.shutdown()`."""
    fds, shm = len(os.listdir("/proc/self/fd")), os.listdir("/dev/shm")
    yield
    serve.shutdown()
    assert len(os.listdir("/proc/self/fd")) == fds and mapped() == 0 and os.listdir("/dev/shm") == shm


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Deploys Entry before Sink, with so many replicas; returns the handles of both."""
    monkeypatch.setenv("EAGLERAY_SHARED_MEMORY_IDLE_S", "1")

    def deploy(entries: int = 1, sinks: int = 1, **options: Any) -> tuple[Any, Any]:
        serve.start(http_options={"port": free_port()})
        sink = Sink.options(num_replicas=sinks, **options)
        entry = serve.run(Entry.options(num_replicas=entries).bind(sink.bind()), name="main")
        return entry, serve.get_deployment_handle("Sink", "main")

    return deploy


def settled(*handles: Any, replicas: int = 1) -> bool:
    """Whether all pools are empty and nothing is mapped, here and in `replicas` processes of each handle."""
    seen: dict[int, bool] = {}
    for handle in handles:
        for _ in range(4 * replicas):
            leased, segments, maps, _, _, pid = handle.state.remote().result(timeout_s=10)
            seen[pid] = leased == segments == maps == 0
    return memory() == (0, 0) and mapped() == 0 and all(seen.values())


def same(value: Any, other: Any) -> bool:
    if isinstance(value, dict):
        return all(same(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    return bool(np.array_equal(value, other)) and type(value) is type(other)


def test_values_of_every_kind_and_size_come_back(app: Callable[..., Any]) -> None:
    entry, sink = app()
    rng = np.random.default_rng(1)
    big = rng.random(300_000)
    values = [
        big,
        big.reshape(100, 3000)[:, ::2],
        np.asfortranarray(big.reshape(500, 600)),
        big[::-1],
        {"arrays": [big, [big[:20_000], big.astype(np.float32)]], "text": "t" * 3_000_000},
        b"b" * 5_000_000,
        bytearray(b"c" * 2_000_000),
        [np.arange(40_000) for _ in range(20)],
        np.array([big, "x", None], dtype=object)[1:],
        big.astype(">f8"),
        np.zeros((0, 3)),
        list(range(400_000)),
    ]
    for value in values:
        for call in (entry.relay, entry.pass_on, sink.echo_in_a_thread, sink.echo):
            assert same(value, call.remote(value).result(timeout_s=30))
    wait_until(lambda: settled(entry, sink))


def test_arrays_of_a_megabyte_are_read_only_whichever_way_they_come(
    app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sink = app()
    for size, writeable in ((100, True), (200_000, True), (MB - 1, True), (MB, False), (5 * MB, False)):
        for _ in range(4):
            result = sink.echo.remote(np.zeros(size, dtype=np.uint8)).result(timeout_s=10)
            assert result.flags.writeable == writeable, size
            seen = sink.describe.remote(np.ones(size, dtype=np.uint8)).result(timeout_s=10)
            assert seen == (writeable, 1, 0), size
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 1
    copy = result.copy()
    copy[0] = 1


def test_remote_takes_a_picture_of_its_arguments(app: Callable[..., Any]) -> None:
    _, sink = app()
    array = np.zeros(3 * MB, dtype=np.uint8)
    responses = []
    for number in range(20):
        array[:] = number
        responses.append(sink.describe.remote(array, other=array))
    assert [response.result(timeout_s=10)[1:] for response in responses] == [(n, n) for n in range(20)]


def test_values_that_are_kept_stay_as_they_are(app: Callable[..., Any]) -> None:
    _, sink = app()
    for number in range(10):
        sink.keep.remote(np.full(2 * MB, number, dtype=np.uint8)).result(timeout_s=10)
    kept = [sink.make.remote(2 * MB, number).result(timeout_s=10) for number in range(10)]
    for _ in range(10):
        sink.echo.remote(np.full(2 * MB, 99, dtype=np.uint8)).result(timeout_s=10)
    assert sink.sums.remote().result(timeout_s=10) == [2 * MB * number for number in range(10)]
    assert [int(value.sum()) for value in kept] == [2 * MB * number for number in range(10)]
    assert memory()[0] > 0 and sink.state.remote().result(timeout_s=10)[0] > 0
    kept.clear()
    sink.drop.remote().result(timeout_s=10)
    wait_until(lambda: settled(sink))


def test_failures_cancels_and_refusals_give_memory_back(app: Callable[..., Any]) -> None:
    _, sink = app(sinks=2, max_ongoing_requests=3)
    array = np.ones(2 * MB, dtype=np.uint8)
    for _ in range(4):
        with pytest.raises(ValueError, match="no"):
            sink.fail.remote(array).result(timeout_s=10)
    hanging = [sink.hang.remote(array) for _ in range(10)]  # more than both replicas take
    for response in hanging:
        response.cancel()
    responses = [sink.echo.remote(array) for _ in range(20)]
    for response in responses[::2]:
        response.cancel()
    for response in responses[1::2]:
        assert response.result(timeout_s=10).sum() == 2 * MB
    del responses, response, hanging
    wait_until(lambda: settled(sink, replicas=2))


def test_a_process_without_shared_memory_uses_the_socket(
    app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLERAY_SHARED_MEMORY_MB", "0")
    entry, _ = app()
    assert process.runtime is not None and process.runtime._memory is None
    for number in range(3):
        array = np.full(5 * MB, number, dtype=np.uint8)
        result = entry.pass_on.remote(array).result(timeout_s=10)
        assert same(result, array) and not result.flags.writeable and mapped() == 0


def test_the_dead_leave_no_memory_behind(app: Callable[..., Any]) -> None:
    """SIGKILL of receivers and of senders under load: nothing is wrong, and everything comes back."""
    entry, sink = app(entries=2, sinks=2)
    stop = threading.Event()
    answered, wrong = [0], []

    def load(number: int) -> None:
        array = np.full(5 * MB, number, dtype=np.uint8)
        while not stop.is_set():
            try:
                result = entry.relay.remote(array).result(timeout_s=20)
            except ReplicaDiedError:
                continue
            except Exception as error:
                wrong.append(error)
                return
            if not same(result, array):
                wrong.append(AssertionError(f"{number} became {result}"))
            answered[0] += 1

    def wait_answers(count: int) -> None:
        goal = answered[0] + count
        wait_until(lambda: answered[0] >= goal or bool(wrong))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_answers(40)
        for handle in (sink, entry, sink, entry):
            victim = handle.state.remote().result(timeout_s=10)[5]
            os.kill(victim, 9)
            wait_answers(30)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not wrong, wrong
    wait_until(lambda: settled(entry, sink, replicas=2))


def test_a_long_load_needs_no_more_memory_than_a_short_one(app: Callable[..., Any]) -> None:
    entry, sink = app()
    array = np.zeros(5 * MB, dtype=np.uint8)

    def load(calls: int) -> None:
        for _ in range(calls):
            entry.relay.remote(array).result(timeout_s=10)

    def figures() -> list[tuple[int, float]]:
        states = [handle.state.remote().result(timeout_s=10) for handle in (entry, sink)]
        return [(len(os.listdir("/proc/self/fd")), rss_mb())] + [(state[3], state[4]) for state in states]

    load(20)
    before = figures()
    load(200)
    after = figures()
    for (fds, rss), (fds_after, rss_after) in zip(before, after, strict=True):
        assert fds_after <= fds + 2 and rss_after <= rss + 30
    wait_until(lambda: settled(entry, sink))
    for (fds, rss), (fds_idle, rss_idle) in zip(before, figures(), strict=True):
        assert fds_idle <= fds and rss_idle < rss - 5, "the memory of the load has been given back"


def test_a_failed_call_leaves_nothing_to_the_garbage_collector(app: Callable[..., Any]) -> None:
    """What the frames of its traceback hold is freed with the error, although the call has kept that."""
    _, sink = app()

    async def catch_awaited(array: Any) -> None:
        with pytest.raises(ValueError, match="no"):
            await sink.fail.remote(array)

    def catch() -> None:
        result = sink.echo.remote(np.ones(2 * MB, dtype=np.uint8)).result(timeout_s=10)
        try:
            sink.fail.remote(result).result(timeout_s=10)
        except ValueError:
            asyncio.run(catch_awaited(result))

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            catch()
        wait_until(lambda: settled(sink))
    finally:
        gc.enable()
