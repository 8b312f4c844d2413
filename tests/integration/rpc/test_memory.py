"""Memory files between two real connections: opened once, read in place, given back, and gone with their owner."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import uvloop

from eagleray.rpc import memory
from eagleray.rpc.client import CallHandler, Client
from eagleray.rpc.memory import MemoryFile, SharedMemory, open_peers
from eagleray.rpc.server import Incoming, Server
from eagleray.wire import codec
from eagleray.wire.leases import Leases, Open
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, ReplyHead
from eagleray.wire.parts import Shared
from eagleray.wire.segments import Segment

HEAD = CallHead(CallKind.PYTHON, "run")


def maps() -> int:
    """Mappings of memory files in this process."""
    with open("/proc/self/maps", encoding="ascii") as file:
        return sum("memfd:eagleray" in line for line in file)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    uvloop.new_event_loop().close()
    gc.collect()
    fds, shm = set(os.listdir("/proc/self/fd")), os.listdir("/dev/shm")
    assert maps() == 0
    yield
    gc.collect()
    assert maps() == 0
    assert set(os.listdir("/proc/self/fd")) == fds and os.listdir("/dev/shm") == shm


class Call(CallHandler):
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.body: bytes | bytearray = b""
        self.error: ErrorHead | None = None
        self.stream: Any = None

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.body = body if end else self.stream.gather(head.size, body)
        if end:
            self.ended.set()

    def on_data(self, chunk: bytes, end: bool) -> None:
        self.ended.set()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        self.error = head
        self.ended.set()


class Rig:
    """A server that keeps calls in `incoming`, a client of it, and the memory of both."""

    def __init__(self, client: Client, mine: SharedMemory, theirs: SharedMemory) -> None:
        self.client = client
        self.mine = mine
        self.theirs = theirs
        self.incoming: asyncio.Queue[Incoming] = asyncio.Queue()

    def send(self, value: Any) -> Call:
        call = Call()
        body = codec.dump_call((value,), {}, self.mine.take)
        call.stream = self.client.call(HEAD, body, handler=call)
        return call

    async def receive(self) -> tuple[Incoming, Any]:
        """The next call with its argument."""
        incoming = await self.incoming.get()
        here: asyncio.Queue[bytes | bytearray] = asyncio.Queue()
        incoming.collect(1 << 40, here.put_nowait)
        incoming.body = b""
        (value,), _ = codec.load_call(await here.get())
        return incoming, value

    async def answered(self, value: Any) -> Any:
        """A call whose argument is ignored, and its result."""
        call = self.send(None)
        incoming, _ = await self.receive()
        incoming.reply(ReplyHead(), codec.dump_value(value, incoming.take))
        del incoming
        await call.ended.wait()
        body, call.body = call.body, b""
        return codec.load_value(body)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


@asynccontextmanager
async def rig(limit_mb: int = 64, idle_s: float = 100.0) -> AsyncIterator[Rig]:
    directory = tempfile.mkdtemp(prefix="er-")
    loop = asyncio.get_running_loop()
    mine, theirs = (SharedMemory(loop, limit_mb << 20, idle_s) for _ in range(2))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"{directory}/s")
    sock.listen()
    server = Server(lambda incoming: running.incoming.put_nowait(incoming))
    server.memory = theirs
    await server.start(sock)
    client = await Client.connect(f"unix:{directory}/s", memory=mine, greeted=True)
    running = Rig(client, mine, theirs)
    try:
        yield running
    finally:
        client.close()
        await client.wait_closed()
        await server.close()
        mine.close()
        theirs.close()
        shutil.rmtree(directory)


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    def go(work: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await work

        (uvloop.run if request.param == "uvloop" else asyncio.run)(bounded())

    return go


async def warm_up(pair: Rig) -> None:
    """The first message of a segment goes by the socket; afterwards the peer knows it."""
    for _ in range(2):
        call = pair.send(np.zeros(1_000_000))
        incoming, _ = await pair.receive()
        incoming.reply(ReplyHead())
        await call.ended.wait()
        await pair.client.ping(5.0)
        del call, incoming, _
        await until(lambda: pair.mine.leased == 0)


def test_arguments_and_results_travel_in_memory_that_is_used_again(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            for number in range(12):
                array = np.full(1_000_000, number)
                call = pair.send(array)
                array[:] = -1  # the call has a picture of it
                incoming, value = await pair.receive()
                assert (value == number).all() and not value.flags.writeable
                incoming.reply(ReplyHead(), codec.dump_value({"twice": value * 2}, incoming.take))
                del value, incoming
                await call.ended.wait()
                body, call.body = call.body, b""
                assert type(body) is Shared or number < 3
                assert (codec.load_value(body)["twice"] == 2 * number).all()
                del body
                await pair.client.ping(5.0)
            await until(lambda: pair.mine.leased == 0 and pair.theirs.leased == 0)
            assert 1 <= pair.mine.segments <= 3 and 1 <= pair.theirs.segments <= 3

    run(work())


def test_the_lease_lasts_as_long_as_the_smallest_view(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            pair.send({"a": np.arange(1_000_000), "b": np.arange(20_000)})
            incoming, value = await pair.receive()
            corner = value["a"].reshape(1000, 1000)[3:5, 7:9].T
            small = value["b"]
            assert small.flags.writeable, "below 1 MB it would not pay to lend"
            incoming.reply(ReplyHead())
            del value, incoming
            gc.collect()
            await pair.client.ping(5.0)
            assert pair.mine.leased == 1
            for _ in range(4):
                pair.send(np.zeros(1_000_000))
                (await pair.receive())[0].reply(ReplyHead())
            assert corner.tolist() == [[3007, 4007], [3008, 4008]]
            del corner
            await until(lambda: pair.mine.leased == 0)

    run(work())


def test_idle_memory_is_given_up_on_both_sides(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig(idle_s=0.05) as pair:
            await warm_up(pair)
            assert maps() >= 2
            await until(lambda: pair.mine.segments == 0 and maps() == 0)
            await warm_up(pair)
            kept = await pair.answered(np.ones(1_000_000))
            kept = await pair.answered(np.ones(1_000_000))
            await until(lambda: pair.mine.segments == 0)
            assert kept.sum() == 1_000_000 and pair.theirs.segments == 1
            del kept
            await until(lambda: pair.theirs.segments == 0 and maps() == 0)

    run(work())


def test_a_full_pool_falls_back_to_the_socket(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig(limit_mb=20) as pair:
            await warm_up(pair)
            held = []
            for number in range(8):
                call = pair.send(np.full(1_000_000, number))
                incoming, value = await pair.receive()
                held.append(value)
                incoming.reply(ReplyHead())
                await call.ended.wait()
            assert [value[5] for value in held] == list(range(8)) and pair.mine.segments == 2
            assert not any(value.flags.writeable for value in held), "the same whatever way they have come"
            held.clear()
            del value
            await until(lambda: pair.mine.leased == 0)

    run(work())


def test_a_rejected_call_is_lent_again_and_a_cancelled_one_comes_back(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            body = codec.dump_call((np.ones(1_000_000),), {}, pair.mine.take)
            for _ in range(3):
                call = Call()
                pair.client.call(HEAD, body, handler=call)
                (await pair.incoming.get()).fail(ErrorHead("rejected"))
                await call.ended.wait()
            call = Call()
            pair.client.call(CallHead(CallKind.PYTHON, "m" * (1 << 20)), body, handler=call)
            await call.ended.wait()
            assert call.error is not None and call.error.code == "config", "nothing was lent for it"
            call = Call()
            stream = pair.client.call(HEAD, body, handler=call)
            del body
            incoming, value = await pair.receive()
            stream.cancel()
            await until(partial(getattr, incoming, "cancelled"))
            assert value.sum() == 1_000_000 and pair.mine.leased == 1
            incoming.fail(ErrorHead("cancelled"))
            del incoming, value
            await until(lambda: pair.mine.leased == 0)

    run(work())


def test_views_outlive_the_connection_and_what_they_see_is_never_written_again(
    run: Callable[[Any], None],
) -> None:
    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            pair.send(np.full(1_000_000, 7))
            _, value = await pair.receive()
            assert pair.mine.leased == 1
            pair.client.close()
            await pair.client.wait_closed()
            other = pair.mine.take(8_000_000)
            assert other is not None
            other.view[:] = b"\xff" * len(other.view)
            assert (value == 7).all() and pair.mine.leased == 1
            del other
            pair.mine.close()
            assert pair.mine.segments == 0 and (value == 7).all()

    run(work())


def test_a_call_that_nobody_reads_gives_its_memory_back(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            pair.send(np.ones(1_000_000))
            incoming = await pair.incoming.get()
            assert type(incoming.body) is Shared
            incoming.fail(ErrorHead("user"))
            del incoming
            await until(lambda: pair.mine.leased == 0)

    run(work())


def test_memory_that_is_not_what_was_offered_is_refused(tmp_path: Any) -> None:
    file = MemoryFile(1 << 20)
    offer = file.offer(Segment(1, 1 << 20, file))
    assert open_peers(offer) is not None
    plain = tmp_path / "plain"
    plain.write_bytes(b"x" * (1 << 20))
    with open(plain, "r+b") as other:
        found = os.fstat(other.fileno())
        unsealed = Open(1, os.getpid(), other.fileno(), found.st_dev, found.st_ino, found.st_size)
        assert open_peers(unsealed) is None
        assert open_peers(Open(1, os.getpid(), other.fileno(), offer.device, offer.inode, offer.size)) is None
    for field in ("pid", "fd", "device", "inode", "size"):
        wrong = Open(**{name: getattr(offer, name) for name in Open.__struct_fields__} | {field: 1 << 21})
        assert open_peers(wrong) is None, field
    file.close()
    assert open_peers(offer) is None


def test_a_peer_that_cannot_open_our_memory_is_served_by_the_socket(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "open_peers", lambda offer: None)

    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            for number in range(3):
                assert (await pair.answered(np.full(1_000_000, number))).sum() == number * 1_000_000
            assert maps() <= 2, "only our own"
            await until(lambda: pair.mine.leased == 0 and pair.theirs.leased == 0)

    run(work())


def test_a_fork_takes_no_memory(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            pid = os.fork()
            if not pid:
                os._exit(0 if pair.mine.take(2_000_000) is None else 1)
            assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222

    run(work())


def test_leases_may_end_in_any_thread(run: Callable[[Any], None]) -> None:
    async def work() -> None:
        async with rig() as pair:
            await warm_up(pair)
            loop = asyncio.get_running_loop()
            for _ in range(20):
                pair.send(np.ones(1_000_000))
                incoming, value = await pair.receive()
                incoming.reply(ReplyHead())
                held = [value]
                del value, incoming
                await loop.run_in_executor(None, held.clear)
            await until(lambda: pair.mine.leased == 0)
            assert pair.mine.segments <= 3

    run(work())


def test_the_size_of_a_body_may_not_fit_the_address_space() -> None:
    with pytest.raises(OSError, match="map"):
        file = MemoryFile(1 << 20)
        try:
            memory.Mapping(file.fd, 1 << 62)
        finally:
            file.close()


def test_a_closed_pool_gives_nothing() -> None:
    loop = asyncio.new_event_loop()
    shared = SharedMemory(loop, 1 << 30, 1.0)
    leases = shared.leases(lambda message: None, lambda function: None)
    assert isinstance(leases, Leases)
    leases.close()
    block = shared.take(2_000_000)
    assert block is not None
    shared.close()
    assert shared.take(2_000_000) is None and shared.segments == 1
    del block
    shared.close()
    assert shared.segments == 0
    loop.close()
