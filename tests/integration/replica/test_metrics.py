"""Each kind of call to a real replica moves the series that it should, by one, and no other."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from tests.integration.replica.replica_process import Replica, replica, until

from eagleray import serve

R = ("D", "abcdefgh", "app")
REQUESTS, ERRORS = "serve_deployment_request_counter", "serve_deployment_error_counter"
LATENCY, CANCELLED = "serve_deployment_processing_latency_ms", "eagleray_replica_cancelled_requests"


class Plain:
    async def __call__(self, request: Request) -> Any:
        match request.url.path:
            case "/raise":
                raise KeyError("x")
            case "/stream":
                return StreamingResponse(iter([b"a", b"b"]))
            case "/wait":
                await asyncio.Event().wait()
        return "ok"

    async def add(self, a: int, b: int) -> int:
        return a + b

    def divide(self, a: int, b: int) -> float:
        return a / b

    async def count(self, until: int) -> Any:
        for number in range(until):
            yield number


def totals(running: Replica) -> dict[str, dict[tuple[str, ...], float]]:
    """Counters and numbers of observations, without the labels of the replica."""
    return {
        one.name: {
            sample.labels[3:]: float(sum(sample.counts)) if sample.counts is not None else sample.value
            for sample in one.samples
        }
        for one in running.worker.registry.collect(everything=True)
        if one.kind != "gauge" and not one.name.startswith("serve_event_loop_")
    }


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, series in after.items():
        old = before.get(name, {})
        if change := {k: v - old.get(k, 0.0) for k, v in series.items() if v != old.get(k, 0.0)}:
            found[name] = change
    return found


def ran(route: str) -> dict[str, Any]:
    return {REQUESTS: {(route,): 1.0}, LATENCY: {(route,): 1.0}}


async def check_kinds(running: Replica) -> None:
    last = totals(running)
    assert last == {
        "serve_deployment_replica_starts": {(): 1.0},
        "eagleray_replica_rejected_requests": {(): 0.0},
        "eagleray_replica_expired_requests": {(): 0.0},
    }

    async def moves(expected: dict[str, Any]) -> None:
        nonlocal last
        await until(lambda: not running.ongoing)
        now = totals(running)
        assert moved(last, now) == expected
        last = now

    await running.get("/")
    await moves(ran("/"))
    assert (await running.get("/stream")).body == b"ab"
    await moves(ran("/"))
    assert (await running.get("/raise")).head.status == 500
    await moves(ran("/") | {ERRORS: {("/", "KeyError"): 1.0}})
    call = running.http("/wait")
    await until(lambda: running.ongoing)
    assert call.stream is not None
    call.stream.cancel()
    await moves(ran("/") | {CANCELLED: {("/",): 1.0}})
    assert await running.value("add", 1, 2) == 3
    await moves(ran(""))
    assert await running.value("divide", 4, 2) == 2
    await moves(ran(""))
    call = running.python("divide", 1, 0)
    await call.done.wait()
    await moves(ran("") | {ERRORS: {("", "ZeroDivisionError"): 1.0}})
    call = running.python("count", 3, stream=True)
    await call.done.wait()
    assert call.items() == [0, 1, 2]
    await moves(ran(""))


def test_each_kind_of_call_moves_its_series() -> None:
    async def check() -> None:
        async with replica(Plain) as running:
            await check_kinds(running)

    asyncio.run(check())


def test_refused_calls_are_not_processed_ones() -> None:
    async def check() -> None:
        async with replica(Plain, max_ongoing_requests=1) as running:
            first = running.http("/wait")
            await until(lambda: running.ongoing)
            refused = await running.get("/")
            assert refused.error is not None and refused.error.code == "rejected"
            assert totals(running)["eagleray_replica_rejected_requests"] == {(): 1.0}
            assert REQUESTS not in totals(running)
            assert first.stream is not None
            first.stream.cancel()

    asyncio.run(check())


def test_asgi_applications_are_counted_by_the_pattern_of_their_route() -> None:
    api = FastAPI()

    @api.get("/users/{name}")
    async def user(name: str) -> str:
        if name == "nobody":
            raise HTTPException(404)
        if name == "broken":
            raise RuntimeError("x")
        return name

    @serve.ingress(api)
    class Api:
        pass

    async def check() -> None:
        async with replica(Api) as running:
            for name in ("a", "b", "nobody", "broken"):
                await running.get(f"/users/{name}")
            await running.get("/elsewhere")
            await until(lambda: ERRORS in totals(running))
            found = totals(running)
            assert found[REQUESTS] == {("/users/{name}",): 4.0, ("/",): 1.0}
            assert found[ERRORS] == {("/users/{name}", "RuntimeError"): 1.0}

    asyncio.run(check())


def test_replies_say_how_long_user_code_took() -> None:
    async def check() -> None:
        async with replica(Plain) as running:
            call = await running.get("/")
            ((sample,),) = [
                one.samples for one in running.worker.registry.collect(everything=True) if one.name == LATENCY
            ]
            assert call.head.took_us == int(1000.0 * sample.value) > 0

    asyncio.run(check())
