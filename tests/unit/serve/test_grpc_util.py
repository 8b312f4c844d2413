"""The context of an RPC and the stream of its requests, as user code sees them."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import grpc
import pytest

from eagleray.serve.grpc_util import RayServegRPCContext, gRPCInputStream, status_number
from eagleray.wire.messages import GrpcStatus

# ---- the context ------------------------------------------------------------------------------------------------


def context() -> RayServegRPCContext:
    return RayServegRPCContext(
        request_id="r",
        application="a",
        invocation_metadata=[("traceparent", "t"), ("blob-bin", b"\x00")],
        peer="ipv4:1.2.3.4:5",
    )


def test_a_context_that_nobody_touches_has_no_status() -> None:
    fresh = context()
    assert fresh.status() is None
    assert (fresh.code(), fresh.details(), fresh.trailing_metadata()) == (None, None, [("request_id", "r")])
    assert (fresh.multiplexed_model_id(), fresh.tracestate()) == (None, None)


def test_what_is_set_becomes_the_status() -> None:
    one = context()
    one.set_code(grpc.StatusCode.NOT_FOUND)
    one.set_details("none such")
    one.set_trailing_metadata([("a", "1"), ("b-bin", b"\xff"), ("request_id", "not this one")])
    one.set_compression(grpc.Compression.Gzip)
    assert one.status() == GrpcStatus(5, "none such", [("a", "1"), ("b-bin", b"\xff")], 2)
    assert one.trailing_metadata() == [("request_id", "r"), ("a", "1"), ("b-bin", b"\xff")]


def test_a_context_survives_pickling() -> None:
    one = context()
    one.set_code(grpc.StatusCode.ABORTED)
    copy = pickle.loads(pickle.dumps(one))
    assert (copy.code(), copy.peer(), copy.traceparent()) == (grpc.StatusCode.ABORTED, "ipv4:1.2.3.4:5", "t")
    assert copy.invocation_metadata() == one.invocation_metadata()
    assert copy.status() == one.status()


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        (("Upper", "x"), ValueError),
        (("grpc-status", "0"), ValueError),
        (("", "x"), ValueError),
        (("a", b"x"), TypeError),
        (("a-bin", "x"), TypeError),
        (("a", 1), TypeError),
        (("a", "new\nline"), ValueError),
        (("a", "ü"), ValueError),
    ],
)
def test_metadata_that_cannot_be_sent_is_refused_where_it_is_set(pair: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        context().set_trailing_metadata([pair])


@pytest.mark.parametrize("code", ["OK", 17, -1, None, object()])
def test_what_is_no_status_code_is_refused(code: Any) -> None:
    with pytest.raises(TypeError):
        context().set_code(code)


def test_every_status_code_has_a_number() -> None:
    assert [status_number(code) for code in grpc.StatusCode] == [code.value[0] for code in grpc.StatusCode]


def test_details_must_be_text_and_compression_one_of_grpcs() -> None:
    with pytest.raises(TypeError):
        context().set_details(b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Compression"):
        context().set_compression(9)


# ---- the stream of requests -----------------------------------------------------------------------------------------


class Feeding:
    """A stream of text with its credit."""

    def __init__(self) -> None:
        self.credit: list[int] = []
        self.stream = gRPCInputStream(bytes.decode, self.credit.append)

    def feed(self, *texts: str) -> None:
        for text in texts:
            self.stream.feed(b"\0" + text.encode(), False)

    def end(self) -> None:
        self.stream.feed(b"", True)


def test_requests_come_in_order_and_give_credit_as_they_are_read() -> None:
    async def main() -> None:
        one = Feeding()
        one.feed("a", "bc", "")
        assert one.credit == []
        assert await anext(one.stream) == "a"
        assert one.credit == [2]
        one.end()
        assert not one.stream.is_exhausted
        assert [text async for text in one.stream] == ["bc", ""]
        assert one.credit == [2, 3, 1]
        assert one.stream.is_exhausted and one.stream.is_exhausted() is True
        assert not one.stream.is_cancelled()

    asyncio.run(main())


def test_a_reader_waits_for_the_next_request() -> None:
    async def main() -> None:
        one = Feeding()
        waiting = asyncio.ensure_future(anext(one.stream))
        await asyncio.sleep(0)
        assert not waiting.done()
        one.feed("late")
        assert await waiting == "late"

    asyncio.run(main())


def test_cancel_ends_the_stream_and_drops_what_comes() -> None:
    async def main() -> None:
        one = Feeding()
        one.feed("a", "b")
        assert await anext(one.stream) == "a"
        one.stream.cancel()
        one.feed("c")
        assert sum(one.credit) == 6, "what is dropped is credited too"
        assert [text async for text in one.stream] == []
        assert one.stream.is_cancelled()

    asyncio.run(main())


def test_cancel_wakes_a_reader() -> None:
    async def main() -> None:
        one = Feeding()
        waiting = asyncio.ensure_future(anext(one.stream, "the end"))
        await asyncio.sleep(0)
        one.stream.cancel()
        assert await waiting == "the end"

    asyncio.run(main())


def test_a_request_that_does_not_parse_raises_at_its_reader_only_once() -> None:
    async def main() -> None:
        one = Feeding()
        one.stream.feed(b"\0\xff", False)
        one.feed("good")
        with pytest.raises(UnicodeDecodeError):
            await anext(one.stream)
        assert await anext(one.stream) == "good"

    asyncio.run(main())
