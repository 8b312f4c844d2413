"""The gRPC proxy without gRPC: which process imports it, the built-in answers, exchanges and back-pressure."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.base.errors import (
    BackPressureError,
    DeploymentUnavailableError,
    EaglerayError,
    ReplicaDiedError,
    RequestCancelledError,
    RequestTimeoutError,
)
from eagleray.base.ids import DeploymentID
from eagleray.proxy.grpc.built_in import healthz_response, list_applications_response
from eagleray.proxy.grpc.exchange import StreamAnswer, UnaryAnswer, Upload
from eagleray.routing.call import DONE, SENT
from eagleray.serve.generated.serve_pb2 import HealthzResponse, ListApplicationsResponse
from eagleray.wire.messages import (
    STATUS_HEADER,
    CallHead,
    ErrorHead,
    GrpcStatus,
    ReplyHead,
    encode_grpc_status,
)


@pytest.mark.parametrize(
    "module",
    [
        "eagleray.engine.node",
        "eagleray.controller.__main__",
        "eagleray.proxy.__main__",
        "eagleray.proxy.grpc.__main__",
        "eagleray.replica.__main__",
        "eagleray.build",
        "eagleray.serve.api",
        "eagleray.serve.grpc_util",
    ],
)
def test_nobody_imports_grpc_before_it_is_used(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"grpc", "google.protobuf", "fastapi", "rich", "ray"} & set(loaded)


@given(st.lists(st.text(max_size=300)))
def test_the_built_in_answers_are_what_protobuf_reads(names: list[str]) -> None:
    assert (
        list(ListApplicationsResponse.FromString(list_applications_response(names)).application_names)
        == names
    )
    for name in names:
        assert HealthzResponse.FromString(healthz_response(name)).message == name


class Stream:
    """A `ClientStream` that writes down what it is told."""

    def __init__(self) -> None:
        self.writable = True
        self.sent: list[tuple[bytes, bool]] = []
        self.credit = 0
        self.cancelled = False

    def send(self, chunk: bytes, end: bool = False) -> None:
        self.sent.append((chunk, end))

    def consumed(self, size: int) -> None:
        self.credit += size

    def cancel(self) -> None:
        self.cancelled = True


def unary(limit: int = 100) -> tuple[UnaryAnswer, Any]:
    done: Any = asyncio.get_running_loop().create_future()
    exchange = UnaryAnswer("app#D", CallHead(3, "/a.B/C"), b"", True, done, limit)
    stream: Any = Stream()
    exchange.stream = stream
    return exchange, stream


def test_a_unary_answer_has_its_status_in_a_header() -> None:
    async def main() -> None:
        plain, _ = unary()
        plain.on_result(ReplyHead(), b"body", True)
        assert await plain.done == (None, b"body")
        told, _ = unary()
        status = GrpcStatus(0, "fine", [("a", "b"), ("c-bin", b"\xff")], 2)
        told.on_result(ReplyHead(headers=[(STATUS_HEADER, encode_grpc_status(status))]), b"body", True)
        assert await told.done == (status, b"body")

    asyncio.run(main())


def test_a_long_answer_is_put_together_up_to_the_limit() -> None:
    async def main() -> None:
        long, stream = unary()
        for number in range(9):
            if number:
                long.on_chunk(b"x" * 10, number == 8)
            else:
                long.on_result(ReplyHead(), b"y" * 10, False)
        assert await long.done == (None, b"y" * 10 + b"x" * 80)
        assert stream.credit >= 80
        at_once, _ = unary(3)
        at_once.on_result(ReplyHead(), b"four", True)
        status, body = await at_once.done
        assert status is not None and (status.code, body) == (8, b"")
        assert "max_message_bytes" in status.details

    asyncio.run(main())


@pytest.mark.parametrize("state", [SENT, DONE])
def test_a_long_answer_over_the_limit_is_refused_also_with_its_last_chunk(state: int) -> None:
    async def main() -> None:
        long, _ = unary(15)
        long.on_result(ReplyHead(), b"y" * 10, False)
        long.state = state
        long.on_chunk(b"x" * 10, True)
        status, body = await asyncio.wait_for(long.done, 5)
        assert status is not None and (status.code, body) == (8, b"")
        assert "max_message_bytes" in status.details

    asyncio.run(main())


@pytest.mark.parametrize("sent", [b"", b"\xff", encode_grpc_status(GrpcStatus())[:-1]])
def test_a_status_that_cannot_be_read_is_internal(sent: bytes) -> None:
    async def main() -> None:
        failed, _ = unary()
        failed.on_user_error(ErrorHead("user"), sent)
        answered, _ = unary()
        answered.on_result(ReplyHead(headers=[(STATUS_HEADER, sent)]), b"", True)
        for exchange in (failed, answered):
            status, _ = await asyncio.wait_for(exchange.done, 5)
            assert status is not None and status.code == 13

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (RequestCancelledError("r"), 1, "Request r was cancelled."),
        (RequestTimeoutError("late"), 4, "late"),
        (BackPressureError(2, 2), 8, "Request dropped due to backpressure"),
        (
            DeploymentUnavailableError(DeploymentID("D", "a")),
            14,
            "is unavailable because it failed to deploy.",
        ),
        (ReplicaDiedError("it died"), 14, "it died"),
        (EaglerayError("whatever"), 13, "whatever"),
    ],
)
def test_failures_become_statuses(error: EaglerayError, code: int, details: str) -> None:
    async def main() -> None:
        exchange, _ = unary()
        exchange.on_failed(error)
        status, body = await exchange.done
        assert status is not None and (status.code, body) == (code, b"")
        assert details in status.details

    asyncio.run(main())


def test_whoever_answers_after_the_end_is_not_heard() -> None:
    async def main() -> None:
        exchange, _ = unary()
        exchange.done.cancel()
        exchange.on_result(ReplyHead(), b"late", True)
        exchange.on_failed(RequestCancelledError())
        exchange.on_user_error(Any, encode_grpc_status(GrpcStatus(5)))  # type: ignore[arg-type]
        assert exchange.done.cancelled()

    asyncio.run(main())


def test_a_stream_gives_credit_for_what_the_client_has_taken() -> None:
    async def main() -> None:
        exchange = StreamAnswer("app#D", CallHead(3, "/a.B/C"), b"", True)
        stream: Any = Stream()
        exchange.stream = stream
        exchange.on_result(ReplyHead(), b"", False)
        exchange.on_chunk(b"\0message", False)
        assert stream.credit == 0
        exchange.consumed(8)
        assert stream.credit == 8
        exchange.on_chunk(b"", True)
        assert exchange.ended and list(exchange.messages) == [b"\0message"]

    asyncio.run(main())


def test_an_upload_waits_for_room_and_ends() -> None:
    async def main() -> None:
        exchange = StreamAnswer("app#D", CallHead(3, "/a.B/C"), b"", False)
        upload = Upload(exchange)
        exchange.on_accepted()
        assert upload.writable.is_set()
        stream: Any = Stream()
        exchange.stream = stream
        await upload.send(b"one")
        stream.writable = False
        sending = asyncio.ensure_future(upload.send(b"two"))
        await asyncio.sleep(0)
        assert not sending.done() and stream.sent == [(b"one", False), (b"two", False)]
        stream.writable = True
        exchange.on_writable()
        await sending
        await upload.send(b"", end=True)
        assert stream.sent[-1] == (b"", True)

    asyncio.run(main())
