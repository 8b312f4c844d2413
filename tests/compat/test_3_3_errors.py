"""Surface 3.3: statuses and bodies of errors over HTTP; section 10 checks 4, 7, 11 and 12."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from tests.compat.client import RawConnection, Reply
from tests.compat.impl import App, Instance, differs, exceptions, needs_processes, running, serve
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until

LIMIT_S = 1.0


@pytest.fixture(scope="module")
def limited() -> Iterator[Instance]:
    with running(request_timeout_s=LIMIT_S) as started:
        yield started


def test_an_exception_is_500_without_details(limited: Instance) -> None:
    @serve.deployment
    class Broken:
        def __call__(self, request: Request) -> None:
            raise ValueError("secret")

    reply = limited.run(Broken.bind()).get()
    assert (reply.status, reply.text) == (500, "Internal Server Error")


@differs("content-type-of-500")
def test_an_exceptions_500_has_a_content_type(limited: Instance) -> None:
    @serve.deployment
    def broken() -> None:
        raise ValueError("secret")

    assert limited.run(broken.bind()).get().headers["content-type"] == "text/plain; charset=utf-8"


def test_no_route_is_404_with_a_hint(limited: Instance) -> None:
    reply = limited.get("/nowhere/at/all")
    assert reply.status == 404
    assert reply.text == "Path '/nowhere/at/all' not found. Ping http://.../-/routes for available routes."


@needs_processes
def test_what_failed_to_deploy_is_503(limited: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("broken")

        def __call__(self) -> None: ...

    with pytest.raises(RuntimeError):
        limited.run(Broken.bind(), name="failed")
    reply = limited.get("/failed")
    text = "Deployment(name='Broken', app='failed') is unavailable because it failed to deploy."
    assert (reply.status, reply.text) == (503, text)


@pytest.mark.parametrize(
    ("config", "status", "retry_after"),
    [
        pytest.param({}, 503, "1", marks=differs("computed-retry-after")),
        ({"status_code": 429, "retry_after_s": 1.2}, 429, "2"),
    ],
)
def test_a_full_queue_is_503_or_as_configured(
    limited: Instance, gate: Gate, journal: Journal, config: Any, status: int, retry_after: str | None
) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=1, backpressure_config=config)
    class Model:
        async def __call__(self, request: Request) -> str:
            journal.write("in")
            await gate.passed()
            return "through"

    app = limited.run(Model.bind())
    untimed = {"x-request-timeout-seconds": "0"}
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(app.get(headers=untimed))) for _ in range(4)]
    threads[0].start()
    journal.wait_for("in")
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(replies) >= 2, "two refusals")
    for reply in replies:
        assert reply.status == status
        assert reply.text == exceptions.BackPressureError(1, 1).message
        assert reply.headers.get("retry-after") == retry_after
    gate.open()
    for thread in threads:
        thread.join()
    assert [reply.text for reply in replies[2:]] == ["through"] * 2


def test_errors_of_child_calls_are_mapped(limited: Instance) -> None:
    @serve.deployment
    def overloaded() -> None:
        raise exceptions.BackPressureError(5, 4)

    reply = limited.run(overloaded.bind()).get()
    assert (reply.status, reply.text) == (503, exceptions.BackPressureError(5, 4).message)


@serve.deployment(max_ongoing_requests=10)
class Slow:
    async def __call__(self, request: Request) -> str:
        path, gate = (request.query_params[key] for key in ("journal", "gate"))
        journal = Journal(path)  # type: ignore[arg-type]
        journal.write("in")
        try:
            await Gate(gate).passed()  # type: ignore[arg-type]
        except asyncio.CancelledError:
            journal.write("cancelled")
            raise
        return "through"


@pytest.fixture(scope="module")
def slow(limited: Instance) -> App:
    return limited.run(Slow.bind(), name="slow")


def test_a_request_that_takes_too_long_is_408_and_cancelled(slow: App, gate: Gate, journal: Journal) -> None:
    reply = slow.get(f"?journal={journal.path}&gate={gate.path}", headers={"x-request-id": "late"})
    assert (reply.status, reply.text) == (408, f"Request late timed out after {LIMIT_S}s.")
    journal.wait_for("cancelled")


def test_a_client_can_shorten_the_time(slow: App, gate: Gate, journal: Journal) -> None:
    headers = {"x-request-timeout-seconds": "0.25", "x-request-id": "own"}
    reply = slow.get(f"?journal={journal.path}&gate={gate.path}", headers=headers)
    assert (reply.status, reply.text) == (408, "Request own timed out after 0.25s.")


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_client_can_switch_the_limit_off(slow: App, gate: Gate, journal: Journal, value: str) -> None:
    replies: list[Reply] = []
    path, headers = f"?journal={journal.path}&gate={gate.path}", {"x-request-timeout-seconds": value}
    thread = threading.Thread(target=lambda: replies.append(slow.get(path, headers=headers)))
    thread.start()
    journal.wait_for("in")
    thread.join(LIMIT_S * 1.5)
    assert thread.is_alive()
    gate.open()
    thread.join()
    assert replies[0].text == "through"


def test_a_malformed_limit_is_ignored(slow: App, gate: Gate, journal: Journal) -> None:
    headers = {"x-request-timeout-seconds": "soon"}
    reply = slow.get(f"?journal={journal.path}&gate={gate.path}", headers=headers)
    assert reply.status == 408


def test_a_stream_that_takes_too_long_is_cut(limited: Instance, gate: Gate, journal: Journal) -> None:
    @serve.deployment
    class Stream:
        def __call__(self, request: Request) -> StreamingResponse:
            async def generate() -> AsyncIterator[str]:
                try:
                    yield "first,"
                    await gate.passed()
                    yield "last"
                finally:
                    journal.write("closed")

            return StreamingResponse(generate())

    app = limited.run(Stream.bind())
    with RawConnection(limited.port) as raw:
        raw.send(f"GET {app.prefix} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert raw.read_until(b"first,").startswith(b"HTTP/1.1 200")
        text = raw.read_to_end()
    assert not text.endswith(b"0\r\n\r\n")
    journal.wait_for("closed")


@needs_processes
def test_a_replica_that_dies_in_flight_is_a_5xx_and_it_comes_back(limited: Instance) -> None:
    @serve.deployment
    class Mortal:
        def __call__(self, request: Request) -> str:
            if "die" in request.query_params:
                os.kill(os.getpid(), signal.SIGKILL)
            return "alive"

    app = limited.run(Mortal.bind())
    assert app.get().text == "alive"
    assert app.get("?die=1").status in (500, 502, 503)
    headers = {"x-request-timeout-seconds": "20"}
    wait_until(lambda: app.get(headers=headers).text == "alive", "the replacement")
