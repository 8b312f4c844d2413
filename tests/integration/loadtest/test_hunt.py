"""The search for the highest rate against a real server whose capacity is known."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
import uvloop

from eagleray.base.errors import PreconditionError
from eagleray.loadtest.hunt import CLIENT, CONNECTIONS, SERVER, Hunt, limit_of
from eagleray.loadtest.plan import Message, Objective, Plan, Url
from eagleray.loadtest.tally import Tally
from eagleray.loadtest.verdict import trial_text, verdict, verdict_text

URL = Url.parse("http://localhost/")
WORK_S = 0.02
"""One after the other, so 50 requests a second are the most."""
PLAN = Plan(rate=40.0, connections=200, duration_s=0.1, warm_up_s=0.1, timeout_s=30.0)
OBJECTIVE = Objective(0.06, 90.0)
TOO_MUCH = 60.0
"""At more than this, 0.7 s of load leave a queue of more than 0.06 s."""


async def _hunt(plan: Plan, status: bytes, stop_after: int = 0) -> tuple[Hunt, list[str]]:
    turn = asyncio.Semaphore(1)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while await reader.readuntil(b"\r\n\r\n"):
                async with turn:
                    await asyncio.sleep(WORK_S)
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
        writer.close()

    lines: list[str] = []
    plans: list[Plan] = []

    def begin(plan: Plan) -> None:
        plans.append(plan)
        if len(plans) == stop_after:
            asyncio.get_running_loop().call_soon(hunt.stop)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    hunt = Hunt(
        plan,
        OBJECTIVE,
        server.sockets[0].getsockname()[:2],
        Message().encode(URL),
        on_tick=lambda _: None,
        on_trial=lambda trial: lines.append(trial_text(trial, OBJECTIVE)),
        on_rate=begin,
    )
    try:
        await asyncio.wait_for(hunt.run(), 300)
    finally:
        server.close()
    return hunt, lines


def test_it_finds_no_more_than_the_server_can() -> None:
    hunt, lines = uvloop.run(_hunt(PLAN, b"200 OK"))
    assert hunt.is_finished and len(lines) == len(hunt.trials) > 3
    for trial in hunt.trials:
        assert not (trial.held and trial.rate > TOO_MUCH), trial_text(trial, OBJECTIVE)
        assert bool(trial.limit) is not trial.held
    found = verdict(URL, Message(), OBJECTIVE, hunt)
    assert found["rate"] is None or 0 < found["rate"] <= TOO_MUCH
    assert "p90 <= 60 ms" in verdict_text(found)


def test_a_server_without_good_answers_has_no_rate() -> None:
    with pytest.raises(PreconditionError, match="but 500: "):
        uvloop.run(_hunt(replace(PLAN, rate=None), b"500 Oh"))


def test_an_interrupted_search_says_so() -> None:
    hunt, lines = uvloop.run(_hunt(PLAN, b"200 OK", stop_after=1))
    assert not hunt.is_finished and not lines
    said = verdict_text(verdict(URL, Message(), OBJECTIVE, hunt))
    assert "No rate was found" in said and "interrupted" in said


def test_what_limits() -> None:
    tally = Tally()
    assert limit_of(tally, OBJECTIVE) == SERVER
    tally.waited = 1
    assert limit_of(tally, OBJECTIVE) == CONNECTIONS
    tally.lag.record(0.1)
    assert limit_of(tally, OBJECTIVE) == CLIENT
    busy = Tally()
    busy.seconds, busy.cpu_s = 10.0, 9.5
    assert limit_of(busy, OBJECTIVE) == CLIENT
    exhausted = Tally()
    exhausted.failed("no file descriptor left here")
    assert limit_of(exhausted, OBJECTIVE) == CLIENT
