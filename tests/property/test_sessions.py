"""Any interleaving of calls, answers, data, credit and cancels, split at any byte, ends with nothing left open."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.session_pair import HEAD, Heard, Pair, feed, take

from eagleray.wire.flow import WINDOW
from eagleray.wire.frames import MAX_CHUNK, Buffer, append_frame
from eagleray.wire.messages import ErrorHead, ReplyHead, encode_call
from eagleray.wire.streams import ClientStream, Incoming

SIZES = (0, 1, 100, 20_000, MAX_CHUNK, MAX_CHUNK + 1, WINDOW + 5, 3 * WINDOW)
seeds = st.integers(0, 2**32)


class Play:
    """Random users on both sides of a pair; each does only what the interface allows."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pair = Pair()
        self.calls: list[tuple[Heard, ClientStream]] = []
        self.unread: dict[int, int] = {}
        self.requests: dict[int, bytes] = {}
        self.received: dict[int, bytearray] = {}
        self.sent: dict[int, bytearray] = {}
        self.pair.server._on_call = self.on_call
        self.answered: set[int] = set()

    def bytes(self) -> bytes:
        return self.random.randbytes(8) * (self.random.choice(SIZES) // 8)

    # ---- users -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        end = self.random.random() < 0.6
        body = self.bytes() if end else self.bytes()[:MAX_CHUNK]
        heard, stream = self.pair.call(body, end=end, handler=Heard(consume=self.random.random() < 0.7))
        self.calls.append((heard, stream))
        self.requests[stream.id] = body

    def on_call(self, incoming: Incoming) -> None:
        self.pair.incoming.append(incoming)
        got = self.received[incoming.id] = bytearray(incoming.body)

        def on_data(chunk: bytes, end: bool) -> None:
            got.extend(chunk)
            incoming.consumed(len(chunk))

        incoming.on_data = on_data
        self.sent[incoming.id] = bytearray()

    def client_acts(self) -> None:
        heard, stream = self.random.choice(self.calls)
        what = self.random.random()
        if what < 0.1:
            stream.cancel()
        elif what < 0.5 and "accepted" in heard.events and stream.flow and not stream.flow.ending:
            chunk = self.bytes()
            if not stream.cancelled and not stream.closed:
                self.requests[stream.id] += chunk
                stream.send(chunk, self.random.random() < 0.3)
        else:
            stream.consumed(self.random.choice((1, 1000, MAX_CHUNK, WINDOW)))

    def server_acts(self) -> None:
        incoming = self.random.choice(self.pair.incoming)
        what = self.random.random()
        if what < 0.3:
            incoming.accept()
        elif incoming.id in self.answered:
            return
        elif what < 0.4:
            self.answered.add(incoming.id)
            incoming.fail(ErrorHead("user"), b"why")
        elif what < 0.6 and not incoming.replied:
            body, end = self.bytes(), self.random.random() < 0.7
            self.sent[incoming.id] += body
            incoming.reply(ReplyHead(1), body, end)
            if end:
                self.answered.add(incoming.id)
        else:
            chunk, end = self.bytes(), self.random.random() < 0.3
            self.sent[incoming.id] += chunk
            incoming.send(chunk, end)
            if end:
                self.answered.add(incoming.id)

    def transport_acts(self) -> None:
        session = self.random.choice((self.pair.client, self.pair.server))
        if session.paused:
            session.resume()
        elif self.random.random() < 0.3:
            session.pause()

    # ---- the run ---------------------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        for _ in range(steps):
            what = self.random.random()
            if what < 0.15 or not self.calls:
                self.open()
            elif what < 0.35:
                self.client_acts()
            elif what < 0.6 and self.pair.incoming:
                self.server_acts()
            elif what < 0.65:
                self.transport_acts()
            else:
                size = self.random.choice((1, 3, 13, 5000, MAX_CHUNK, 4 * WINDOW))
                self.pair.step(towards_server=self.random.random() < 0.5, size=size)

    def finish(self) -> None:
        """Everybody does what is still due."""
        self.pair.client.resume()
        self.pair.server.resume()
        while True:
            self.pair.run()
            for incoming in self.pair.incoming:
                if incoming.id not in self.answered:
                    self.answered.add(incoming.id)
                    incoming.send(b"", end=True)
            for _, stream in self.calls:
                stream.consumed(WINDOW)
            if not self.pair.step(towards_server=True) and not self.pair.step(towards_server=False):
                return


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_every_interleaving_ends_with_nothing_open(seed: int) -> None:
    play = Play(seed)
    play.play(120)
    play.finish()
    assert play.pair.is_idle
    for heard, stream in play.calls:
        assert heard.terminal == 1 and stream.closed
        if heard.error is None and not stream.cancelled:
            assert heard.body == play.sent[stream.id]
        got = play.received[stream.id]
        assert play.requests[stream.id][: len(got)] == got


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 100))
def test_a_lost_connection_ends_every_call_once(seed: int, steps: int) -> None:
    play = Play(seed)
    play.play(steps)
    play.pair.client.close("lost")
    play.pair.server.close("lost")
    assert play.pair.is_idle
    assert all(heard.terminal == 1 for heard, _ in play.calls)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans(), seeds)
def test_random_bytes_break_the_protocol_and_nothing_else(data: bytes, greeted: bool, seed: int) -> None:
    for server in (True, False):
        pair = Pair()
        heard, _ = pair.call(b"x", end=False)
        if greeted:
            pair.run()
        session = pair.server if server else pair.client
        feed(session, data)
        session.close("end")
        assert not session.streams
        assert server or heard.terminal == 1


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.sampled_from([0, 1, 2, 3, 0xFFFFFFFF]),
            st.sampled_from([b"", b"\x90", b"\x91\x01", b"\xff", encode_call(HEAD), b"\x91\xa1x"]),
            st.sampled_from([b"", b"1234", b"12345678", b"\xff" * 4, b"z" * MAX_CHUNK]),
        ),
        max_size=12,
    )
)
def test_well_formed_nonsense_breaks_the_protocol_and_nothing_else(
    frames: list[tuple[int, int, bytes, bytes]],
) -> None:
    out: list[Buffer] = []
    for frame in frames:
        append_frame(out, *frame)
    for server in (True, False):
        pair = Pair()
        calls = [pair.call(b"x")[0], pair.call(b"x", end=False)[0]]
        pair.run()
        session = pair.server if server else pair.client
        feed(session, b"".join(out))
        session.close("end")
        take(session)
        assert not session.streams
        assert server or all(heard.terminal == 1 for heard in calls)
