"""A load against servers that behave, and against those that close, refuse, stall, lie and talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import uvloop
from tests.ports import free_port

from eagleray.loadtest.ledger import Line
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Plan
from eagleray.loadtest.tally import Tally

REQUEST = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[bool | None]]
"""Gives one answer, the number of which it gets; a true result closes the connection."""

CLOSED = Plan(connections=3, requests=60, duration_s=30.0, warm_up_s=0.0, timeout_s=30.0)
OPEN = Plan(rate=500.0, connections=50, requests=60, duration_s=30.0, warm_up_s=0.0, timeout_s=30.0)
both_loops = pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])


async def _measure(plan: Plan, serve: Serve, act: Callable[[Load], None] | None = None) -> Tally:
    answered = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with suppress(OSError, EOFError):
            while await reader.readuntil(b"\r\n\r\n"):
                answered += 1
                if await serve(reader, writer, answered):
                    break
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    load = Load(plan, server.sockets[0].getsockname()[:2], REQUEST)
    if act is not None:
        act(load)
    try:
        return await asyncio.wait_for(load.run(), 120)
    finally:
        server.close()


def measure(plan: Plan, serve: Serve, act: Callable[[Load], None] | None = None) -> Tally:
    return uvloop.run(_measure(plan, serve, act))


def answering(data: bytes, *, close: bool = False) -> Serve:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> bool:
        writer.write(data)
        return close

    return serve


def ended(tally: Tally) -> int:
    return tally.statuses.total() + tally.errors.total() + tally.unfinished


@both_loops
def test_each_request_is_counted_once(plan: Plan) -> None:
    tally = measure(plan, answering(OK))
    assert tally.statuses == {200: 60} and not tally.errors and tally.sent == 60
    assert tally.good.count == 60 and tally.failures == 0 and tally.rate > 0
    assert tally.bytes_in == 60 * len(OK)


@both_loops
def test_statuses_from_400_on_are_no_good_answers(plan: Plan) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(OK if number % 3 else OK.replace(b"200 OK", b"503 Busy"))

    tally = measure(plan, serve)
    assert tally.statuses == {200: 40, 503: 20} and tally.good.count == 40 and tally.bad.count == 20


@both_loops
def test_a_server_that_closes_after_each_answer(plan: Plan) -> None:
    tally = measure(plan, answering(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", close=True))
    assert tally.statuses == {200: 60} and not tally.errors


@both_loops
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "closed"),
        (OK[:-1], "cut off"),
        (b"HTT", "cut off"),
        (b"what do you want?\r\n\r\n", "bad answer"),
    ],
)
def test_what_is_no_answer_is_an_error(plan: Plan, data: bytes, error: str) -> None:
    tally = measure(plan, answering(data, close=True))
    assert tally.errors == {error: 60} and not tally.statuses


@both_loops
def test_nobody_listens(plan: Plan) -> None:
    tally = uvloop.run(Load(plan, ("127.0.0.1", free_port()), REQUEST).run())
    assert tally.errors == {"refused": 60} and tally.sent == 0


@both_loops
def test_a_server_that_resets(plan: Plan) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.transport.abort()

    tally = measure(plan, serve)
    assert set(tally.errors) <= {"reset", "closed"} and tally.errors.total() == 60


def test_a_server_that_stalls_costs_a_timeout() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")

    plan = Plan(rate=200.0, connections=2, requests=10, duration_s=30.0, warm_up_s=0.0, timeout_s=0.2)
    tally = measure(plan, serve)
    assert tally.errors == {"timeout": 10} and ended(tally) == 10


def test_two_answers_to_one_question_are_one() -> None:
    tally = measure(CLOSED, answering(OK + OK))
    assert tally.statuses == {200: 60} and not tally.errors


def test_latency_counts_from_the_intended_time() -> None:
    """One connection, whose first answer comes when the other requests are long due: they are late too."""

    async def main() -> tuple[Tally, list[Line]]:
        released = asyncio.Event()
        lines: list[Line] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, EOFError):
                while await reader.readuntil(b"\r\n\r\n"):
                    asyncio.get_running_loop().call_later(0.3, released.set)
                    await released.wait()
                    writer.write(OK)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        plan = Plan(rate=100.0, connections=1, requests=5, duration_s=30.0, warm_up_s=0.0, timeout_s=60.0)
        load = Load(plan, server.sockets[0].getsockname()[:2], REQUEST, on_line=lines.append)
        tally = await asyncio.wait_for(load.run(), 120)
        server.close()
        return tally, lines

    tally, lines = uvloop.run(main())
    assert tally.statuses == {200: 5} and tally.waited + tally.lag.count == 5
    assert [line.number for line in lines] == [0, 1, 2, 3, 4]
    spans = [line.t_intended - lines[0].t_intended for line in lines]
    assert spans == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04])
    assert all(line.t_sent >= lines[0].t_ended for line in lines[1:])
    assert tally.good.lowest >= 0.25


def test_the_warm_up_is_not_counted() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal served
        served = number
        writer.write(OK)

    served = 0
    plan = Plan(rate=200.0, connections=20, requests=20, duration_s=60.0, warm_up_s=0.2, timeout_s=60.0)
    tally = measure(plan, serve)
    assert tally.statuses == {200: 20} and served > 20


@both_loops
def test_stopping_tells_what_is_under_way(plan: Plan) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number == 20:
            loads[0].stop()
        if number < 20:
            writer.write(OK)

    loads: list[Load] = []
    tally = measure(plan, serve, loads.append)
    assert tally.statuses.total() <= 19 and tally.unfinished >= 1 and not tally.errors
    assert ended(tally) >= tally.sent


@both_loops
def test_without_keep_alive_each_request_has_its_connection(plan: Plan) -> None:
    connections: set[int] = set()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connections.add(writer.get_extra_info("peername")[1])
        writer.write(OK)

    one_each = Plan(**{**vars(plan), "keep_alive": False})
    tally = measure(one_each, serve)
    assert tally.statuses == {200: 60} and len(connections) == 60


def test_answers_without_end_time_out_although_the_loop_has_no_time_to_look() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"5\r\nhello\r\n" * 1000)
            await writer.drain()

    def blind(load: Load) -> None:
        load._sweep = lambda: None  # type: ignore[method-assign]

    plan = Plan(rate=50.0, connections=3, requests=3, duration_s=30.0, warm_up_s=0.0, timeout_s=0.2)
    assert measure(plan, endless, blind).errors == {"timeout": 3}
