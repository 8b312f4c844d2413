"""What two sessions that are joined in memory do: calls, streams, credit, cancel, the end."""

from __future__ import annotations

import struct

import pytest
from tests.session_pair import HEAD, Heard, Pair, take

from eagleray.base.errors import ProtocolError
from eagleray.wire.flow import WINDOW
from eagleray.wire.frames import (
    CALL,
    CANCEL,
    CREDIT,
    DATA,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    MAX_CHUNK,
    MAX_HEAD,
    MORE,
    REPLY,
    Buffer,
    append_frame,
)
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, ReplyHead, encode_call


def frame(meta: int, stream_id: int, head: bytes = b"", body: bytes = b"") -> bytes:
    out: list[Buffer] = []
    append_frame(out, meta, stream_id, head, body)
    return b"".join(out)


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.run()
    return pair


# ---- unary -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 20_000, MAX_CHUNK])
def test_a_unary_call_is_one_frame_each_way(pair: Pair, size: int) -> None:
    heard, _ = pair.call(b"q" * size)
    sent = take(pair.client)
    assert sent == frame(CALL | END, 1, encode_call(HEAD), b"q" * size)
    pair.server.receive(sent)
    incoming = pair.incoming[0]
    assert incoming.ended and incoming.body == b"q" * size and incoming.head == HEAD
    incoming.reply(ReplyHead(3, 200), b"a" * size)
    incoming.reply(ReplyHead(4), b"ignored")
    pair.run()
    assert (heard.events, heard.body, heard.terminal) == (["reply"], b"a" * size, 1)
    assert pair.is_idle


def test_an_error_ends_the_call(pair: Pair) -> None:
    heard, stream = pair.call()
    pair.run()
    pair.incoming[0].fail(ErrorHead("rejected", "full", 5))
    pair.run()
    assert heard.error == ErrorHead("rejected", "full", 5)
    assert stream.closed and pair.is_idle


def test_a_head_over_the_limit_is_refused_at_the_sender(pair: Pair) -> None:
    with pytest.raises(ValueError, match="head of the call"):
        pair.client.call(CallHead(CallKind.PYTHON, "m" * MAX_HEAD), b"", True, Heard())
    assert pair.is_idle
    heard, _ = pair.call()
    pair.run()
    pair.incoming[0].reply(ReplyHead(headers=[(b"x", b"y" * MAX_HEAD)]))
    pair.run()
    assert heard.error is not None and heard.error.code == "internal"


def test_an_error_over_the_limit_is_cut(pair: Pair) -> None:
    heard, _ = pair.call()
    pair.run()
    pair.incoming[0].fail(ErrorHead("user", "m" * MAX_HEAD), b"e" * (MAX_CHUNK + 1))
    pair.run()
    assert heard.error is not None and heard.error.code == "user" and heard.terminal == 1


def test_stream_ids_wrap_and_skip_those_in_use(pair: Pair) -> None:
    first, _ = pair.call()
    pair.run()
    pair.client._last_id = pair.server._last_id = 0xFFFFFFFE
    heard = [pair.call()[0] for _ in range(3)]
    pair.run()
    assert [incoming.id for incoming in pair.incoming] == [1, 0xFFFFFFFF, 2, 3]
    for incoming in pair.incoming:
        incoming.reply(ReplyHead())
    pair.run()
    assert all(h.terminal == 1 for h in [first, *heard]) and pair.is_idle


# ---- streams and credit ----------------------------------------------------------------------------------------


def test_a_big_reply_arrives_in_chunks_as_it_is_consumed(pair: Pair) -> None:
    body = bytes(range(256)) * 20_000
    heard, stream = pair.call(handler=Heard(consume=False))
    pair.run()
    pair.incoming[0].reply(ReplyHead(1), body)
    pair.run()
    assert len(heard.body) == WINDOW and not heard.terminal
    while not heard.terminal:
        stream.consumed(MAX_CHUNK)
        pair.run()
    assert heard.body == body and heard.terminal == 1 and pair.is_idle


@pytest.mark.parametrize("step", [None, 7777, 65_537])
def test_a_big_body_is_gathered_into_one_buffer(pair: Pair, step: int | None) -> None:
    body = bytes(range(251)) * 20_000
    whole: list[bytes | bytearray] = []
    pair.call(body)
    run(pair, step)
    pair.incoming[0].collect(1 << 30, whole.append)
    run(pair, step)
    assert whole == [bytearray(body)] and type(whole[0]) is bytearray

    class Gathering(Heard):
        def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
            assert self.stream is not None and not end
            whole.append(self.stream.gather(head.size, body))

    gathering, _ = pair.call(handler=Gathering())
    pair.incoming[0].reply(ReplyHead())
    run(pair, step)
    pair.incoming[1].reply(ReplyHead(1), body)
    run(pair, step)
    assert gathering.messages == [] and gathering.terminal == 1 and whole[1] == body
    assert pair.is_idle


def run(pair: Pair, size: int | None) -> None:
    """Delivers everything, `size` bytes at a time."""
    while pair.step(towards_server=True, size=size) or pair.step(towards_server=False, size=size):
        pass


def test_a_call_may_end_while_its_body_is_gathered(pair: Pair) -> None:
    heard, _ = pair.call(b"x" * (3 * MAX_CHUNK))
    pair.run()
    pair.incoming[0].collect(1 << 30, lambda body: None)
    for _ in range(3):
        pair.step(towards_server=False)
        pair.step(towards_server=True, size=300_000)
    pair.incoming[0].fail(ErrorHead("user"))
    pair.run()
    assert heard.terminal == 1 and pair.is_idle


@pytest.mark.parametrize("size", [1, MAX_CHUNK, 2 * MAX_CHUNK - 1, 2 * MAX_CHUNK + 1])
def test_a_body_of_another_size_than_announced_breaks_the_protocol(pair: Pair, size: int) -> None:
    pair.call(b"x" * (2 * MAX_CHUNK))
    pair.run()
    incoming = pair.incoming[0]
    incoming.head.size = size
    if size <= MAX_CHUNK:
        with pytest.raises(ProtocolError, match="announces"):
            incoming.collect(1 << 30, lambda body: None)
    else:
        incoming.collect(1 << 30, lambda body: None)
        with pytest.raises(ProtocolError, match="did not end"):
            pair.run()


def test_messages_arrive_whole_whatever_their_size(pair: Pair) -> None:
    messages = [b"a", b"b" * (MAX_CHUNK + 1), b"c" * (5 * WINDOW + 7), b"d"]
    heard, _ = pair.call()
    pair.run()
    incoming = pair.incoming[0]
    incoming.reply(ReplyHead(), end=False)
    for message in messages:
        incoming.send(message)
    incoming.send(b"", end=True)
    pair.run()
    assert heard.messages == messages and heard.events[-1] == "data" and heard.terminal == 1
    assert pair.is_idle


def test_huge_messages_wait_for_the_one_who_does_not_consume(pair: Pair) -> None:
    heard, stream = pair.call(handler=Heard(consume=False))
    pair.run()
    for _ in range(5):
        pair.incoming[0].send(b"m" * (3 * WINDOW))
    pair.run()
    assert len(heard.messages) == 1
    while len(heard.messages) < 5:
        stream.consumed(3 * WINDOW)
        pair.run()
    pair.incoming[0].send(b"", end=True)
    pair.run()
    assert heard.terminal == 1 and pair.is_idle


def test_consuming_more_than_was_received_grants_no_more_than_the_window(pair: Pair) -> None:
    _, stream = pair.call(handler=Heard(consume=False))
    pair.run()
    pair.incoming[0].send(b"x" * MAX_CHUNK)
    pair.run()
    for _ in range(10):
        stream.consumed(WINDOW)
        pair.run()
        assert stream.flow is not None and stream.flow.granted <= WINDOW
    sent = 0
    while pair.incoming[0].writable:
        pair.incoming[0].send(b"x" * MAX_CHUNK)
        sent += MAX_CHUNK
    assert sent <= WINDOW


def test_on_writable_comes_once_credit_is_back(pair: Pair) -> None:
    _, stream = pair.call(handler=Heard(consume=False))
    pair.run()
    incoming, calls = pair.incoming[0], []
    incoming.on_writable = lambda: calls.append(incoming.writable)
    while incoming.writable:
        incoming.send(b"x" * MAX_CHUNK)
    pair.run()
    assert not calls
    stream.consumed(WINDOW)
    pair.run()
    assert calls == [True]


def test_a_paused_transport_stops_streams_but_not_unary_replies(pair: Pair) -> None:
    streamed, _ = pair.call()
    unary, _ = pair.call()
    pair.run()
    pair.server.pause()
    pair.incoming[0].send(b"chunk")
    pair.incoming[1].reply(ReplyHead(), b"unary")
    pair.run()
    assert unary.body == b"unary" and streamed.body == b""
    pair.server.resume()
    pair.run()
    assert streamed.body == b"chunk"


def test_an_upload_waits_until_it_is_accepted(pair: Pair) -> None:
    heard, stream = pair.call(b"first", end=False)
    pair.run()
    incoming, got = pair.incoming[0], []
    assert not incoming.ended and not stream.writable and heard.events == []
    incoming.on_data = lambda chunk, end: got.append((chunk, end))
    incoming.accept()
    incoming.accept()
    pair.run()
    assert heard.events == ["accepted"] and stream.writable
    stream.send(b"second")
    stream.send(b"third", end=True)
    stream.send(b"never")
    pair.run()
    assert got == [(b"second", False), (b"third", True)] and incoming.ended
    incoming.reply(ReplyHead())
    pair.run()
    assert pair.is_idle


def test_a_big_request_is_collected_without_callbacks_at_the_caller(pair: Pair) -> None:
    body = b"z" * (3 * WINDOW + 1)
    heard, _ = pair.call(body)
    pair.run()
    done: list[bytes] = []
    pair.incoming[0].collect(10 * WINDOW, done.append)
    pair.run()
    assert done == [body] and heard.events == []
    pair.incoming[0].reply(ReplyHead(), b"ok")
    pair.run()
    assert heard.body == b"ok" and pair.is_idle


def test_collect_refuses_what_is_over_its_limit(pair: Pair) -> None:
    heard, _ = pair.call(b"z" * (3 * WINDOW))
    pair.run()
    done: list[bytes] = []
    pair.incoming[0].collect(WINDOW, done.append)
    pair.run()
    assert not done and heard.error is not None and heard.error.code == "too_large" and pair.is_idle


def test_a_rejected_upload_has_sent_nothing_but_its_first_chunk(pair: Pair) -> None:
    heard, _ = pair.call(b"z" * (3 * WINDOW))
    pair.step(towards_server=True)
    pair.incoming[0].fail(ErrorHead("rejected"))
    pair.run()
    assert heard.error == ErrorHead("rejected") and pair.is_idle


def test_an_answer_may_come_before_the_upload_has_ended(pair: Pair) -> None:
    heard, stream = pair.call(b"first", end=False)
    pair.run()
    pair.incoming[0].accept()
    pair.run()
    pair.incoming[0].reply(ReplyHead(), b"enough")
    stream.send(b"crosses the answer")
    pair.run()
    stream.send(b"dropped")
    pair.run()
    assert heard.body == b"enough" and heard.terminal == 1 and pair.is_idle


# ---- cancel ------------------------------------------------------------------------------------------------------


def test_cancel_reaches_the_callee_once_and_its_answer_ends_the_call(pair: Pair) -> None:
    heard, stream = pair.call()
    pair.run()
    incoming, cancelled = pair.incoming[0], []
    incoming.on_cancel = lambda: cancelled.append(True)
    stream.cancel()
    stream.cancel()
    pair.run()
    assert cancelled == [True] and not heard.terminal
    incoming.send(b"swallowed")
    incoming.send(b"", end=True)
    pair.run()
    assert heard.error is not None and heard.error.code == "cancelled" and heard.terminal == 1
    assert pair.is_idle


def test_cancel_ends_an_answer_that_waits_for_credit(pair: Pair) -> None:
    heard, stream = pair.call(handler=Heard(consume=False))
    pair.run()
    pair.incoming[0].reply(ReplyHead(), b"x" * (4 * WINDOW))
    pair.run()
    stream.cancel()
    pair.run()
    assert heard.error is not None and heard.error.code == "cancelled" and pair.is_idle


def test_cancel_that_crosses_the_answer_is_ignored(pair: Pair) -> None:
    heard, stream = pair.call()
    pair.run()
    stream.cancel()
    pair.incoming[0].reply(ReplyHead(), b"late")
    pair.run()
    assert heard.body == b"late" and heard.terminal == 1 and pair.is_idle


# ---- callbacks that raise, and the end ---------------------------------------------------------------------------


class Broken(Heard):
    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        super().on_reply(head, body, end)
        raise RuntimeError("boom")

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        super().on_error(head, body)
        raise RuntimeError("boom")


def test_a_callback_that_raises_costs_its_own_call_only(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    unary, _ = pair.call(handler=Broken())
    streamed, _ = pair.call(handler=Broken())
    other, _ = pair.call()
    pair.run()
    pair.incoming[0].reply(ReplyHead())
    pair.incoming[1].reply(ReplyHead(), b"x", False)
    pair.run()
    assert pair.incoming[1].cancelled
    pair.incoming[1].fail(ErrorHead("cancelled"))
    pair.incoming[2].reply(ReplyHead(), b"fine")
    pair.run()
    assert (unary.terminal, streamed.terminal, other.body) == (1, 1, b"fine") and pair.is_idle
    assert len(caplog.records) == 3


def test_a_server_handler_that_raises_fails_its_call(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()

    def on_call(incoming: object) -> None:
        raise RuntimeError("boom")

    pair.server._on_call = on_call
    heard, _ = pair.call()
    pair.run()
    assert heard.error is not None and heard.error.code == "internal" and pair.is_idle
    assert len(caplog.records) == 1


def test_close_ends_every_call_once_on_both_sides(pair: Pair) -> None:
    heard = [pair.call()[0], pair.call(b"u", end=False)[0], pair.call(handler=Broken())[0]]
    pair.run()
    cancelled: list[int] = []
    for incoming in pair.incoming:
        incoming.on_cancel = lambda n=incoming.id: cancelled.append(n)  # type: ignore[misc]
    assert pair.client.close("the line was cut") and pair.server.close("the line was cut")
    assert not pair.client.close("again") and not pair.server.close("again")
    assert [h.terminal for h in heard] == [1, 1, 1]
    assert heard[0].error == ErrorHead("replica_died", "the line was cut")
    assert cancelled == [1, 2, 3] and pair.is_idle
    for incoming in pair.incoming:
        incoming.reply(ReplyHead())
        incoming.fail(ErrorHead("internal"))
    pair.server.room()
    pair.server.goaway()
    assert not take(pair.server)


def test_room_and_goaway_reach_the_client(pair: Pair) -> None:
    heard: list[str] = []
    pair.client.on_room = lambda: heard.append("room")
    pair.client.on_goaway = lambda: heard.append("goaway")
    pair.server.room()
    pair.server.goaway()
    pair.run()
    assert heard == ["room", "goaway"]


def test_a_limit_reaches_the_client_and_is_no_room(pair: Pair) -> None:
    heard: list[object] = []
    pair.client.on_room = lambda: heard.append("room")
    pair.client.on_limit = heard.append
    pair.server.limit(300)
    pair.run()
    assert heard == [300]
    pair.client.on_limit = None
    pair.server.limit(301)
    pair.run()
    assert heard == [300]


# ---- violations --------------------------------------------------------------------------------------------------

OPEN = frame(CALL, 1, encode_call(HEAD))


@pytest.mark.parametrize(
    "data",
    [
        frame(HELLO, 0),
        frame(CALL | END, 1, b"\xff"),
        frame(CALL | END, 0, encode_call(HEAD)),
        OPEN + OPEN,
        frame(CALL | END, 2, encode_call(HEAD)) + frame(CALL | END, 1, encode_call(HEAD)),
        OPEN + frame(DATA, 1, b"", b"no credit yet"),
        OPEN + frame(DATA | END, 1) + frame(DATA | END, 1),
        OPEN + frame(DATA | END | MORE, 1),
        OPEN + frame(CREDIT, 1, b"", b"12345"),
        OPEN + frame(REPLY, 1),
        OPEN + frame(CANCEL, 1) + frame(DATA | END, 1),
        frame(DATA, 7),
        frame(CANCEL, 7),
        frame(GOAWAY, 0),
        frame(0x3F, 0),
        struct.pack("<III", 0xFFFFFFFF, 1, CALL),
    ],
)
def test_a_server_refuses_what_breaks_the_protocol(pair: Pair, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        pair.server.receive(data)


@pytest.mark.parametrize(
    "data",
    [
        frame(REPLY | END, 9, b"\x90"),
        frame(REPLY | END, 1, b"\xff"),
        frame(REPLY, 1, b"\x90") + frame(REPLY, 1, b"\x90"),
        frame(REPLY, 1, b"\x90") + frame(REPLY | END, 1, b"\x90"),
        frame(REPLY | MORE, 1, b"\x90"),
        frame(DATA, 1),
        frame(ERROR, 1, b"\x91\xa1x"),
        frame(ERROR | END, 1, b"\x90"),
        frame(REPLY, 1, b"\x90") + frame(DATA, 1, b"", b"x" * MAX_CHUNK) * 5,
        frame(CALL | END, 1),
        frame(CANCEL, 1),
        frame(GOAWAY, 0, b"", b"x"),
    ],
)
def test_a_client_refuses_what_breaks_the_protocol(pair: Pair, data: bytes) -> None:
    heard, _ = pair.call(handler=Heard(consume=False))
    with pytest.raises(ProtocolError):
        pair.client.receive(data)
    pair.client.close("broken")
    assert heard.terminal == 1


def test_credit_beyond_reason_is_refused(pair: Pair) -> None:
    pair.call(b"u", end=False)
    with pytest.raises(ProtocolError):
        pair.client.receive(frame(CREDIT, 1, b"", b"\xff\xff\xff\xff"))


# ---- handshake ---------------------------------------------------------------------------------------------------


def test_both_sides_prove_the_secret() -> None:
    pair = Pair(b"secret", b"secret")
    pair.run()
    assert pair.client.ready and pair.server.ready
    heard, _ = pair.call(b"x")
    pair.run()
    pair.incoming[0].reply(ReplyHead(), b"y")
    pair.run()
    assert heard.body == b"y"


def test_a_server_without_the_secret_is_refused() -> None:
    pair = Pair(b"secret", b"other")
    pair.step(towards_server=True)
    with pytest.raises(ProtocolError, match="server does not know"):
        pair.step(towards_server=False)
    assert not pair.client.ready


def test_a_client_without_the_secret_is_never_heard() -> None:
    pair = Pair(None, b"secret")
    pair.call()
    with pytest.raises(ProtocolError, match="no challenge"):
        pair.step(towards_server=True)
    assert not pair.incoming and not pair.server.ready


def test_a_call_before_the_proof_is_refused() -> None:
    pair = Pair(b"secret", b"secret")
    pair.call()
    with pytest.raises(ProtocolError):
        pair.step(towards_server=True)
    assert not pair.incoming


def test_a_wrong_proof_is_refused() -> None:
    pair, liar = Pair(b"secret", b"secret"), Pair(b"wrong", b"wrong")
    liar.run()
    pair.step(towards_server=True)
    with pytest.raises(ProtocolError, match="client does not know"):
        pair.server.receive(frame(HELLO, 0, b"\x93\x01\xc4\x00\xc4\x20" + b"p" * 32))


def test_another_version_is_refused(pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="version 2"):
        Pair().server.receive(frame(HELLO, 0, b"\x91\x02"))


def test_before_the_handshake_little_is_kept() -> None:
    with pytest.raises(ProtocolError, match="limits"):
        Pair().server.receive(struct.pack("<III", 100_000, 0, HELLO))
