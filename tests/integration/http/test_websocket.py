"""WebSockets in the proxy towards raw sockets on one side and a replica that the test plays on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.http.conftest import Run
from tests.integration.http.stack import Client, Stack, stack, until
from tests.websocket_frames import (
    BINARY,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    close,
    deflated,
    frame,
    opening,
    server_frames,
)

from eagleray.rpc.server import Incoming
from eagleray.wire.messages import CallKind, ErrorHead, Headers, ReplyHead
from eagleray.wire.websocket import (
    CLOSE,
    RECORD,
    RECORD_SIZE,
    pack_close,
    pack_record,
    unpack_close,
)

DEADLINE_S = 10.0


class Replica:
    """Accepts every WebSocket. `credit=False`: an application that does not receive."""

    def __init__(self, headers: Headers | None = None, *, echo: bool = True, credit: bool = True) -> None:
        self.headers = headers or []
        self.echo = echo
        self.credit = credit
        self.messages: list[tuple[int, bytes]] = []
        self.closed: tuple[int, str] | None = None
        self.cancelled = False
        self.incoming: Incoming | None = None

    def __call__(self, incoming: Incoming) -> None:
        assert incoming.head.kind == CallKind.WEBSOCKET
        self.incoming = incoming
        incoming.on_data = self.on_data
        incoming.on_cancel = self.on_cancel
        incoming.accept()
        incoming.reply(ReplyHead(1, 101, self.headers), b"", False)

    def on_data(self, chunk: bytes, end: bool) -> None:
        assert self.incoming is not None
        position = 0
        while position < len(chunk):
            kind, size = RECORD.unpack_from(chunk, position)
            payload = chunk[position + RECORD_SIZE : position + RECORD_SIZE + size]
            position += RECORD_SIZE + size
            if kind == CLOSE:
                assert end and position == len(chunk)
                self.closed = unpack_close(payload)
                self.incoming.send(b"", True)
                return
            self.messages.append((kind, payload))
            if self.echo:
                self.incoming.send(pack_record(kind, payload))
        if self.credit:
            self.incoming.consumed(len(chunk))

    def on_cancel(self) -> None:
        self.cancelled = True
        assert self.incoming is not None
        self.incoming.fail(ErrorHead("cancelled", "", 0))

    def say(self, *records: bytes, end: bool = False) -> None:
        assert self.incoming is not None
        self.incoming.send(b"".join(records), end)


class Socket:
    """A client after its handshake."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.data = b""

    async def send(self, *frames: bytes) -> None:
        await self.client.send(b"".join(frames))

    async def next(self) -> tuple[int, bytes]:
        """The next frame: (first byte, payload)."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := next(server_frames(self.data), None)):
                piece = await self.client.reader.read(65536)
                assert piece, "the connection has ended"
                self.data += piece
        first, payload = found
        size = len(payload)
        self.data = self.data[size + (2 if size < 126 else 4 if size < 65536 else 10) :]
        return first, payload

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the next close frame, to which the client answers; then the connection must end."""
        while (got := await self.next())[0] != 0x88:
            pass
        code = int.from_bytes(got[1][:2], "big")
        await self.send(close(1000 if code == 1012 else code))
        assert await self.client.rest() == b""
        await self.client.close()
        return code, got[1][2:].decode()

    async def ended(self) -> None:
        assert await self.client.rest() == b""
        await self.client.close()


async def open_socket(s: Stack, *extra: str) -> Socket:
    client = await s.connect()
    await client.send(opening("/", *extra))
    status, headers = await client.head()
    assert status == 101, headers
    return Socket(client)


async def settled(s: Stack, *lines: str) -> None:
    """Nothing is under way any more, and this is what the access log says."""
    await until(lambda: len(s.connections) == 0 and s.server.ongoing == 0)
    await until(lambda: s.router.ongoing("default#D") == 0)
    assert s.log() == list(lines)


def scenario(
    run: Run, replica: Callable[[Incoming], None], main: Callable[[Stack], Any], **options: Any
) -> None:
    async def start() -> None:
        async with stack(replica, **options) as s:
            await main(s)

    run(start())


def test_messages_go_both_ways_and_the_log_has_the_close_code(run: Run) -> None:
    replica = Replica([(b"x-mine", b"1"), (b"sec-websocket-protocol", b"json"), (b"upgrade", b"no")])

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening("/p?q=1", "X-Request-Id: mine", "Sec-WebSocket-Protocol: json"))
        status, headers = await client.head()
        assert status == 101
        fields = dict(headers)
        assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert (fields["upgrade"], fields["connection"]) == ("websocket", "Upgrade")
        assert (fields["x-mine"], fields["x-request-id"]) == ("1", "mine")
        assert (fields["sec-websocket-protocol"], fields["server"]) == ("json", "eagleray")
        assert len(headers) == len(fields)
        assert s.calls[0].head.http is not None
        assert (s.calls[0].head.http.path, s.calls[0].head.http.query_string) == ("/p", b"q=1")
        socket = Socket(client)
        await socket.send(
            frame(TEXT, b"a"), frame(BINARY, b"b"), frame(PING, b"c"), frame(TEXT, b"d" * 300_000)
        )
        assert sorted([await socket.next() for _ in range(4)]) == sorted(
            [(0x81, b"a"), (0x82, b"b"), (0x80 | PONG, b"c"), (0x81, b"d" * 300_000)]
        )
        assert s.server.ongoing == 1 and s.router.ongoing("default#D") == 1
        await socket.send(close(4000, b"done"))
        assert await socket.next() == (0x88, b"\x0f\xa0done")
        await socket.ended()
        assert replica.closed == (4000, "done")
        await settled(s, "WS / 4000")

    scenario(run, replica, main)


@pytest.mark.parametrize(
    ("said", "end", "code"),
    [
        ([pack_record(1, b"last"), pack_close(4001, "enough")], False, (4001, "enough")),
        ([pack_close(1000)], True, (1000, "")),
        ([], True, (1000, "")),
    ],
)
def test_the_application_closes(run: Run, said: list[bytes], end: bool, code: tuple[int, str]) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        replica.say(*said)
        if end:
            replica.say(end=True)
        assert await socket.closed() == code
        if not end:
            replica.say(end=True)
        await settled(s, f"WS / {code[0]}")

    scenario(run, replica, main)


@pytest.mark.parametrize(
    ("code", "expected"), [("user", 1011), ("internal", 1011), ("replica_died", 1011), ("timeout", 3008)]
)
def test_a_failed_call_closes_with_a_code(run: Run, code: str, expected: int) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        assert replica.incoming is not None
        replica.incoming.fail(ErrorHead(code, "it went wrong", 0))
        assert (await socket.closed())[0] == expected
        await settled(s, f"WS / {expected}")

    scenario(run, replica, main)


def test_the_death_of_a_replica_closes_with_1011(run: Run) -> None:
    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        await s.replica.close()
        assert (await socket.closed())[0] == 1011
        await settled(s, "WS / 1011")

    scenario(run, Replica(), main)


def test_a_client_that_vanishes_is_a_1006_and_no_cancel(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        await socket.send(frame(TEXT, b"last words"))
        assert await socket.next() == (0x81, b"last words")
        socket.client.writer.transport.abort()
        await until(lambda: replica.closed is not None)
        assert replica.closed == (1006, "") and not replica.cancelled
        await settled(s, "WS / 1006")

    scenario(run, replica, main)


def test_a_client_that_vanishes_during_the_handshake_is_a_cancel(run: Run) -> None:
    waiting: list[Incoming] = []
    cancelled: list[bool] = []

    def hold(incoming: Incoming) -> None:
        def on_cancel() -> None:
            cancelled.append(True)
            incoming.fail(ErrorHead("cancelled", "", 0))

        incoming.on_cancel = on_cancel
        incoming.accept()
        waiting.append(incoming)

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening())
        await until(lambda: bool(waiting))
        client.writer.transport.abort()
        await until(lambda: bool(cancelled))
        await settled(s, "WS / 499")

    scenario(run, hold, main)


@pytest.mark.parametrize("end", [True, False])
def test_a_refusal_is_a_plain_response_and_the_end_of_the_connection(run: Run, end: bool) -> None:
    def refuse(incoming: Incoming) -> None:
        if end:
            incoming.reply(ReplyHead(0, 451, [(b"x-why", b"law")]), b"no")
        else:
            incoming.reply(ReplyHead(0, 451, [(b"x-why", b"law")]), b"n", False)
            incoming.send(b"o", True)

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening() + frame(TEXT, b"hopeful") + opening())
        answer = await client.response()
        assert (answer.status, answer.body, answer["x-why"]) == (451, b"no", "law")
        assert answer["connection"] == "close"
        assert await client.rest() == b""
        await client.close()
        await settled(s, "WS / 451")
        assert len(s.calls) == 1

    scenario(run, refuse, main)


def test_a_bad_handshake_costs_no_call(run: Run) -> None:
    async def main(s: Stack) -> None:
        for version, status in (("7", 426), ("13, 13", 426)):
            client = await s.connect()
            await client.send(opening(version=version))
            answer = await client.response()
            assert (answer.status, answer["sec-websocket-version"]) == (status, "13")
            assert await client.rest() == b""
            await client.close()
        client = await s.connect()
        await client.send(opening(key="x"))
        assert (await client.response()).status == 400
        await client.close()
        assert not s.calls
        await settled(s, "WS / 426", "WS / 426", "WS / 400")

    scenario(run, Replica(), main)


def test_headers_that_would_break_the_answer_are_a_500(run: Run) -> None:
    replica = Replica([(b"x-split", b"a\r\nset-cookie: b")])

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening())
        assert (await client.response()).status == 500
        await client.close()
        await until(lambda: replica.cancelled)
        await settled(s, "WS / 500")

    scenario(run, replica, main)


def test_an_upgrade_to_another_protocol_is_answered_in_http(run: Run) -> None:
    def ok(incoming: Incoming) -> None:
        assert incoming.head.kind == CallKind.HTTP
        incoming.reply(ReplyHead(0, 200, []), b"plain")

    async def main(s: Stack) -> None:
        client = await s.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
            assert (await client.response()).body == b"plain"
        await client.send(opening("/-/healthz"))
        assert (await client.response()).body == b"success"
        assert await client.rest() == b""
        await client.close()

    scenario(run, ok, main)


# ---- back-pressure ---------------------------------------------------------------------------------------------


def test_an_application_that_does_not_receive_stops_the_client(run: Run) -> None:
    replica = Replica(echo=False, credit=False)

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        message = frame(BINARY, bytes(60_000))
        socket.client.writer.transport.set_write_buffer_limits(0)
        sending = asyncio.create_task(socket.send(*[message] * 1000), name="sending")
        await until(lambda: len(replica.messages) * 60_005 > 900_000)
        for _ in range(300):
            await asyncio.sleep(0)
        assert not sending.done()
        assert len(replica.messages) < 25
        assert replica.incoming is not None
        replica.credit = True
        replica.incoming.consumed(len(replica.messages) * 60_005)
        await sending
        await until(lambda: len(replica.messages) == 1000)
        await socket.send(close(1000))
        await socket.next()
        await socket.ended()
        assert replica.closed == (1000, "")
        await settled(s, "WS / 1000")

    scenario(run, replica, main)


@pytest.mark.parametrize("clean", [True, False])
def test_what_a_client_had_said_before_it_closed_arrives_and_before_it_vanished_may_not(
    run: Run, clean: bool
) -> None:
    replica = Replica(echo=False, credit=False)

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        message = frame(BINARY, bytes(200_000))
        await socket.send(*[message] * 6)  # more than the window, less than the buffers
        await until(lambda: len(replica.messages) == 5)
        assert replica.incoming is not None
        if clean:
            await socket.send(close(1000))
            assert (await socket.next())[0] == 0x88
            await socket.ended()
            await until(lambda: not len(s.connections))
            assert replica.closed is None and not replica.cancelled
            replica.credit = True
            replica.incoming.consumed(len(replica.messages) * 200_005)
            await until(lambda: replica.closed is not None)
            assert len(replica.messages) == 6 and replica.closed == (1000, "")
        else:
            socket.client.writer.transport.abort()
            await until(lambda: replica.cancelled)
        await settled(s, "WS / 1000" if clean else "WS / 1006")

    scenario(run, replica, main)


def test_a_client_that_does_not_read_stops_the_application_and_gets_one_pong(run: Run) -> None:
    replica = Replica(echo=False)

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        socket.client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        record = pack_record(2, bytes(60_000))
        assert replica.incoming is not None
        sent = 0
        while sent < 50_000_000:
            if not replica.incoming.writable:
                for _ in range(300):
                    await asyncio.sleep(0)
                if not replica.incoming.writable:
                    break
            replica.say(record)
            sent += len(record)
        assert sent < 20_000_000
        (connection,) = s.connections._open
        buffered = connection._transport.get_write_buffer_size()  # type: ignore[attr-defined]
        for number in range(100):
            await socket.send(*[frame(PING, b"%05d" % number + b"x" * 100)] * 100)
        await socket.send(frame(TEXT, b"heard"))
        await until(lambda: (1, b"heard") in replica.messages)
        assert connection._transport.get_write_buffer_size() <= buffered  # type: ignore[attr-defined]
        socket.client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        frames = [await socket.next() for _ in range(sent // len(record) + 1)]
        assert [payload for first, payload in frames if first == 0x80 | PONG] == [b"00099" + b"x" * 100]
        await socket.client.close()
        await until(lambda: replica.closed is not None)

    scenario(run, replica, main)


def test_many_bombs_in_one_read_wait_for_the_application(run: Run) -> None:
    replica = Replica(echo=False, credit=False)

    async def main(s: Stack) -> None:
        socket = await open_socket(s, DEFLATE)
        bomb = frame(BINARY, deflated(bytes(1_000_000)), rsv=4)
        assert len(bomb) < 2000
        await socket.send(*[bomb] * 100)
        await until(lambda: len(replica.messages) >= 1)
        for _ in range(300):
            await asyncio.sleep(0)
        (connection,) = s.connections._open
        assert connection._rest  # type: ignore[attr-defined]
        exchange: Any = connection._handler  # type: ignore[attr-defined]
        assert sum(map(len, exchange._backlog)) < 6_000_000
        replica.credit = True
        assert replica.incoming is not None
        replica.incoming.consumed(sum(len(payload) + RECORD_SIZE for _, payload in replica.messages))
        await until(lambda: len(replica.messages) == 100)
        await socket.client.close()
        await until(lambda: replica.closed is not None)

    scenario(run, replica, main)


def test_a_burst_of_small_messages_arrives_in_order(run: Run) -> None:
    replica = Replica(echo=False)

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        texts = [b"%d" % number for number in range(20_000)]
        await socket.send(*[frame(TEXT, text) for text in texts])
        await until(lambda: len(replica.messages) == len(texts))
        assert [payload for _, payload in replica.messages] == texts
        await socket.client.close()
        await until(lambda: replica.closed is not None)

    scenario(run, replica, main)


# ---- times: the sweep is called, no second passes ----------------------------------------------------------------


def test_a_silent_client_gets_pings_and_is_gone_when_it_stays_silent(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        for _ in range(3):
            for _ in range(4):
                s.connections.sweep()
            first, payload = await socket.next()
            assert first == 0x80 | PING
            await socket.send(frame(PONG, payload))
            await socket.send(frame(TEXT, b"x"))
            assert await socket.next() == (0x81, b"x")
        for _ in range(3 + 2 + 1):
            s.connections.sweep()
        assert (await socket.next())[0] == 0x80 | PING
        assert await socket.closed() == (1011, "keep-alive ping timed out")
        await until(lambda: replica.closed is not None)
        assert replica.closed == (1011, "keep-alive ping timed out")
        await settled(s, "WS / 1011")

    scenario(run, replica, main, limits={"websocket_ping_interval_s": 3.0, "websocket_ping_timeout_s": 2.0})


def test_without_an_interval_nobody_is_pinged(run: Run) -> None:
    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        for _ in range(200):
            s.connections.sweep()
        await socket.send(frame(TEXT, b"x"))
        assert await socket.next() == (0x81, b"x")
        await socket.client.close()

    scenario(run, Replica(), main, limits={"websocket_ping_interval_s": 0})


def test_an_idle_websocket_is_closed_although_pings_are_answered(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        for _ in range(4):
            s.connections.sweep()
        await socket.send(frame(TEXT, b"x"))
        assert await socket.next() == (0x81, b"x")
        for _ in range(5):
            s.connections.sweep()
            await socket.send(frame(PING, b"p"))
            assert await socket.next() == (0x80 | PONG, b"p")
        s.connections.sweep()
        assert await socket.closed() == (1001, "idle")
        await until(lambda: replica.closed is not None)
        assert replica.closed == (1001, "idle")
        await settled(s, "WS / 1001")

    scenario(run, replica, main, limits={"websocket_idle_timeout_s": 5.0})


def test_a_client_that_does_not_answer_a_close_is_cut_off(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        replica.say(pack_close(1000))
        replica.say(end=True)
        assert (await socket.next())[0] == 0x88
        for _ in range(9):
            s.connections.sweep()
            await socket.send(frame(TEXT, b"not listening") * 100)
        assert len(s.connections) == 1
        s.connections.sweep()
        await settled(s, "WS / 1000")
        await socket.client.close()

    scenario(run, replica, main)


def test_a_handshake_that_is_not_answered_in_time_is_a_408(run: Run) -> None:
    cancelled: list[bool] = []

    def hold(incoming: Incoming) -> None:
        def on_cancel() -> None:
            cancelled.append(True)
            incoming.fail(ErrorHead("cancelled", "", 0))

        incoming.on_cancel = on_cancel
        incoming.accept()

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening())
        answer = await client.response()
        assert answer.status == 408 and b"timed out after 0.05s" in answer.body
        assert s.calls[0].head.deadline == 0
        await client.close()
        await until(lambda: bool(cancelled))
        await settled(s, "WS / 408")

    scenario(run, hold, main, limits={"websocket_open_timeout_s": 0.05})


def test_the_request_timeout_bounds_the_whole_life(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s, "x-request-id: mine", "x-request-timeout-seconds: 0.2")
        await socket.send(frame(TEXT, b"x"))
        assert await socket.next() == (0x81, b"x")
        assert replica.incoming is not None and replica.incoming.head.deadline > 0
        assert await socket.closed() == (3008, "Request mine timed out after 0.2s.")
        await until(lambda: replica.cancelled)
        await settled(s, "WS / 3008")

    scenario(run, replica, main)


def test_the_open_timeout_ends_with_the_handshake(run: Run) -> None:
    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        (connection,) = s.connections._open
        assert connection._handler._bucket is None  # type: ignore[attr-defined]
        await socket.client.close()
        await settled(s, "WS / 1006")

    scenario(run, Replica(), main, limits={"websocket_open_timeout_s": 0.05})


def test_a_draining_proxy_tells_its_clients_to_come_again(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s)
        draining = asyncio.create_task(s.connections.drain(5.0), name="draining")
        assert (await socket.closed())[0] == 1012
        await draining
        await until(lambda: replica.closed is not None)
        assert replica.closed is not None and replica.closed[0] == 1012
        await settled(s, "WS / 1012")

    scenario(run, replica, main)


def test_a_websocket_that_opens_while_the_proxy_drains_is_refused(run: Run) -> None:
    waiting: list[Incoming] = []

    async def main(s: Stack) -> None:
        client = await s.connect()
        await client.send(opening())
        await until(lambda: bool(waiting))
        draining = asyncio.create_task(s.connections.drain(5.0), name="draining")
        await asyncio.sleep(0)
        replica(waiting[0])
        assert (await client.response()).status == 503
        await client.close()
        await draining
        await until(lambda: replica.cancelled)
        await settled(s, "WS / 503")

    replica = Replica()
    scenario(run, waiting.append, main)


def test_a_deadline_also_ends_an_application_that_outlives_its_client(run: Run) -> None:
    replica = Replica()

    async def main(s: Stack) -> None:
        socket = await open_socket(s, "x-request-timeout-seconds: 0.3")
        assert replica.incoming is not None
        replica.incoming.on_data = lambda chunk, end: None  # it does not care that the client has gone
        await socket.send(close(1000))
        assert await socket.next() == (0x88, b"\x03\xe8")
        await socket.ended()
        assert s.router.ongoing("default#D") == 1 and not replica.cancelled
        await until(lambda: replica.cancelled)
        await settled(s, "WS / 1000")

    scenario(run, replica, main)
