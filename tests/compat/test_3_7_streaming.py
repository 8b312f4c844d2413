"""Surface 3.7: streamed responses and disconnecting clients; section 10 checks 9 and 10."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import StreamingResponse
from tests.compat.client import RawConnection
from tests.compat.impl import App, Instance, serve
from tests.compat.world import Gate, Journal

fast = FastAPI()


@serve.deployment(max_ongoing_requests=20)
class Child:
    async def __call__(self, journal: Journal, gate: Gate) -> str:
        journal.write("child in")
        try:
            await gate.passed()
        except asyncio.CancelledError:
            journal.write("child cancelled")
            raise
        return "child through"


@serve.deployment(max_ongoing_requests=20)
class Streams:
    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, request: Request) -> Any:
        what = request.query_params["what"]
        journal = Journal(request.query_params["journal"])  # type: ignore[arg-type]
        gate = Gate(request.query_params["gate"])  # type: ignore[arg-type]
        if what == "wait":
            return await self.wait(journal, gate)
        if what == "child":
            return await self.child.remote(journal, gate)
        made = self.sync(gate) if what == "sync" else getattr(self, what)(journal, gate)
        return StreamingResponse(made, status_code=202, headers={"x-stream": what})

    def sync(self, gate: Gate) -> Iterator[str]:
        yield "first,"
        gate.passed_sync()
        yield "last"

    async def asynchronous(self, journal: Journal, gate: Gate) -> AsyncIterator[str]:
        yield "first,"
        await gate.passed()
        yield "last"

    async def endless(self, journal: Journal, gate: Gate) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            journal.write("closed")

    async def breaks(self, journal: Journal, gate: Gate) -> AsyncIterator[str]:
        yield "first,"
        raise ValueError("mid-stream")

    async def wait(self, journal: Journal, gate: Gate) -> str:
        journal.write("in")
        try:
            await gate.passed()
        except asyncio.CancelledError:
            journal.write("cancelled")
            raise
        journal.write("finished")
        return "through"


@pytest.fixture(scope="module")
def streams(instance: Instance) -> App:
    return instance.run(Streams.bind(Child.bind()), name="streams")


def ask(what: str, gate: Gate, journal: Journal, headers: str = "") -> bytes:
    path = f"/streams?what={what}&gate={gate.path}&journal={journal.path}"
    return f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n".encode()


@pytest.mark.parametrize("what", ["sync", "asynchronous"])
def test_the_first_chunk_comes_before_the_last_is_made(
    streams: App, instance: Instance, gate: Gate, journal: Journal, what: str
) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask(what, gate, journal))
        head = raw.read_until(b"first,")
        assert head.startswith(b"HTTP/1.1 202")
        assert f"x-stream: {what}".encode() in head.lower()
        gate.open()
        assert b"last" in raw.read_to_end()


def test_a_disconnect_cancels_the_handler(
    streams: App, instance: Instance, gate: Gate, journal: Journal
) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask("wait", gate, journal))
        journal.wait_for("in")
    journal.wait_for("cancelled")


def test_a_disconnect_cancels_child_calls(
    streams: App, instance: Instance, gate: Gate, journal: Journal
) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask("child", gate, journal))
        journal.wait_for("child in")
    journal.wait_for("child cancelled")


def test_a_disconnect_closes_a_stream(streams: App, instance: Instance, gate: Gate, journal: Journal) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask("endless", gate, journal))
        raw.read_until(b"x" * 1000)
    journal.wait_for("closed")


def test_a_client_can_ask_not_to_be_cancelled(
    streams: App, instance: Instance, gate: Gate, journal: Journal
) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask("wait", gate, journal, headers="x-request-disconnect-disabled: ?1\r\n"))
        journal.wait_for("in")
    assert streams.handle.deployment_name == "Streams"
    gate.open()
    journal.wait_for("finished")
    assert journal.count("cancelled") == 0


def test_an_error_after_the_first_byte_cuts_the_connection(
    streams: App, instance: Instance, gate: Gate, journal: Journal
) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(ask("breaks", gate, journal))
        text = raw.read_to_end()
    assert b"first," in text
    assert not text.endswith(b"0\r\n\r\n")


def test_streams_from_fastapi(instance: Instance, gate: Gate) -> None:
    @serve.deployment
    @serve.ingress(fast)
    class Ingress:
        @fast.get("/")
        def root(self) -> StreamingResponse:
            def generate() -> Iterator[str]:
                yield "first,"
                gate.passed_sync()
                yield "last"

            return StreamingResponse(generate())

    app = instance.run(Ingress.bind())
    with RawConnection(instance.port) as raw:
        raw.send(f"GET {app.prefix}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        raw.read_until(b"first,")
        gate.open()
        assert b"last" in raw.read_to_end()


def test_a_large_stream_arrives_whole(instance: Instance) -> None:
    @serve.deployment
    class Large:
        async def __call__(self, request: Request) -> StreamingResponse:
            async def generate() -> AsyncIterator[bytes]:
                for number in range(100):
                    yield bytes([number]) * 50_000

            return StreamingResponse(generate())

    body = instance.run(Large.bind()).get().body
    assert len(body) == 5_000_000
    assert body == b"".join(bytes([number]) * 50_000 for number in range(100))
