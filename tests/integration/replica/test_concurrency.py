"""Bursts and cancellation at random instants: strict slots, one answer each, counters back at zero."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import pytest
from tests.integration.replica.replica_process import Call, Replica, replica, until

from eagleray.rpc.client import Client
from eagleray.wire import codec
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, HttpHead, ReplyHead
from eagleray.wire.streams import CallHandler

LIMIT = 5


class Counting:
    """Knows how many of its calls run, by its own count."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    async def __call__(self) -> str:
        self.enter()
        try:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
        finally:
            self.leave()
        return "ok"

    def sync(self) -> str:
        self.enter()
        sum(range(random.randrange(2000)))
        self.leave()
        return "ok"


def test_a_call_whose_deadline_has_passed_is_not_run() -> None:
    async def main() -> None:
        async with replica(Counting) as r:
            head = CallHead(CallKind.PYTHON, request_id="r1", app="app", deadline=monotonic() - 0.001)
            late = Call()
            late.stream = r.client.call(head, codec.dump_call((), {}), handler=late)
            await late.done.wait()
            assert late.error is not None and late.error.code == "timeout"
            assert r.ongoing == 0
            head.deadline = monotonic() + 60
            early = Call()
            early.stream = r.client.call(head, codec.dump_call((), {}), handler=early)
            await early.done.wait()
            assert early.value() == "ok"

    asyncio.run(main())


class Persistent(CallHandler):
    """A call that is sent again after ROOM whenever it is rejected, as a router does."""

    def __init__(self, head: CallHead, caller: Caller) -> None:
        self.head = head
        self.caller = caller

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        assert 0 <= head.load < LIMIT
        self.caller.answered()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        assert head.code == "rejected" and head.load == LIMIT, head
        self.caller.waiting.append(self)


class Caller:
    """One connection with many calls."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.waiting: list[Persistent] = []
        self.done = asyncio.Event()
        self.client: Client

    def room(self, client: Client) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            self.send(call)

    def send(self, call: Persistent) -> None:
        body = b"" if call.head.kind == CallKind.HTTP else b"\x80\x05)}\x94\x86\x94."
        self.client.call(call.head, body, handler=call)

    def answered(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


def _head(method: str) -> CallHead:
    if method == "http":
        return CallHead(CallKind.HTTP, request_id="r", http=HttpHead("GET", "/", b"/", b"", []))
    return CallHead(CallKind.PYTHON, method, request_id="r")


@pytest.mark.parametrize("methods", [["http"], ["sync"], ["http", "sync", ""]])
def test_a_burst_from_many_connections_never_exceeds_the_limit(methods: list[str]) -> None:
    async def main() -> None:
        async with replica(Counting, max_ongoing_requests=LIMIT) as r:
            callers = [Caller(200) for _ in range(4)]
            for caller in callers:
                caller.client = await Client.connect(r.address, on_room=caller.room)
            for i in range(200):
                for caller in callers:
                    caller.send(Persistent(_head(methods[i % len(methods)]), caller))
            for caller in callers:
                await caller.done.wait()
                caller.client.close()
            user = r.worker._replica.servable_object
            assert (user.now, user.total, r.ongoing) == (0, 800, 0)
            assert user.most <= LIMIT

    asyncio.run(main())


class Varied:
    """Methods of every kind; each suspends here and there."""

    def __init__(self) -> None:
        self.now = 0
        self.lock = threading.Lock()

    def step(self, by: int) -> None:
        with self.lock:
            self.now += by

    async def __call__(self) -> str:
        self.step(1)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            return "ok"
        finally:
            self.step(-1)

    async def stubborn(self) -> str:
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
        return "anyway"

    async def raises_on_cancel(self) -> str:
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise SystemExit(1) from None
        return "ok"

    def sync(self) -> bytes:
        return b"x" * 100_000

    async def items(self) -> AsyncIterator[bytes]:
        self.step(1)
        try:
            for _ in range(20):
                yield b"x" * 90_000
        finally:
            self.step(-1)

    def sync_items(self) -> Iterator[bytes]:
        self.step(1)
        try:
            for _ in range(20):
                yield b"x" * 90_000
        finally:
            self.step(-1)

    async def makes_items(self) -> Iterator[bytes]:
        return self.sync_items()


def _random_call(r: Replica, rng: random.Random) -> Call:
    method = rng.choice(
        ["http", "", "stubborn", "raises_on_cancel", "sync", "items", "sync_items", "makes_items"]
    )
    credit = rng.random() < 0.5
    if method == "http":
        return r.http()
    if method == "" and rng.random() < 0.3:  # an upload, whose arguments may never be whole
        return r.python(method, stream=False, credit=credit)
    return r.python(method, stream="items" in method, credit=credit)


@pytest.mark.parametrize("seed", range(4))
def test_cancels_at_random_instants_leave_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        async with replica(Varied, max_ongoing_requests=50) as r:
            calls: list[Call] = []
            for _ in range(300):
                call = _random_call(r, rng)
                calls.append(call)
                for _ in range(rng.randrange(6)):
                    await asyncio.sleep(0)
                victim = rng.choice(calls)
                assert victim.stream is not None
                victim.stream.cancel()
            for call in calls:
                assert call.stream is not None
                call.stream.cancel()
            for call in calls:
                await call.done.wait()
                assert call.answers == 1
            await _settle(r)

    asyncio.run(main())


def test_a_caller_that_dies_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with replica(Varied, max_ongoing_requests=50) as r:
            rng = random.Random(7)
            for _ in range(10):
                client = r.client
                other = await Client.connect(r.address)
                r.client = other
                for _ in range(20):
                    _random_call(r, rng)
                big: Any = CallHead(CallKind.PYTHON, "", request_id="r")
                other.call(big, b"half of the arguments", end=False, handler=Call())
                for _ in range(rng.randrange(30)):
                    await asyncio.sleep(0)
                other.close()
                await other.wait_closed()
                r.client = client
            await _settle(r)
            assert await r.value("") == "ok"

    asyncio.run(main())


async def _settle(r: Replica) -> None:
    """All counters are zero: the worker's, the floor's, and the user's own."""
    floor = r.worker._floor
    assert floor is not None
    await until(lambda: not (r.ongoing or floor.running or r.worker._replica.servable_object.now))
    assert r.ongoing == 0 and floor.threads._busy == 0
