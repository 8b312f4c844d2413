"""The proxy towards clients on raw sockets: keep-alive, pipelining, bodies both ways, slow and rude clients."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

import pytest
from tests.integration.http.conftest import Run
from tests.integration.http.stack import TEXT, Client, Stack, ok, stack, until

from eagleray.rpc.server import Incoming
from eagleray.wire.messages import ErrorHead, ReplyHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def echo_path(incoming: Incoming) -> None:
    assert incoming.head.http is not None
    incoming.reply(ReplyHead(0, 200, TEXT), incoming.head.http.raw_path)


def echo(incoming: Incoming) -> None:
    """Answers with the request's body, streamed if it comes as a stream."""
    if incoming.ended:
        incoming.reply(ReplyHead(0, 200, []), incoming.body)
        return
    incoming.reply(ReplyHead(0, 200, []), incoming.body, end=False)

    def on_data(chunk: bytes, end: bool) -> None:
        incoming.consumed(len(chunk))
        incoming.send(chunk, end)

    incoming.on_data = on_data
    incoming.consumed(len(incoming.body))
    incoming.accept()


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with stack(echo_path) as s:
            client = await s.connect()
            paths = [b"/%d" % i for i in range(500)] + [b"/-/healthz"]
            await client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths))
            for path in paths[:-1]:
                assert (await client.response()).body == path
            assert (await client.response()).body == b"success"
            await client.close()

    run(main())


def test_a_bad_request_is_answered_after_those_before_it(run: Run) -> None:
    async def main() -> None:
        async with stack(echo_path) as s:
            client = await s.connect()
            await client.send(GET + b"GET /x HTTP/1.1\r\n\r\n" + GET)
            assert (await client.response()).body == b"/"
            bad = await client.response()
            assert (bad.status, bad["connection"]) == (400, "close")
            assert await client.rest() == b""
            assert len(s.calls) == 1
            await client.close()
            assert sorted(s.log()) == ["-  400", "GET / 200"]

    run(main())


def test_keep_alive_and_close(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await s.connect()
            for _ in range(3):
                assert (await client.get()).all("connection") == []
            assert (await client.get(headers="Connection: close\r\n"))["connection"] == "close"
            assert await client.rest() == b""
            await client.close()
            old = await s.connect()
            await old.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await old.response())["connection"] == "keep-alive"
            await old.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await old.response())["connection"] == "close"
            assert await old.rest() == b""
            await old.close()

    run(main())


def test_head_has_no_body(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await s.connect()
            answer = await client.get(method="HEAD")
            assert (answer.status, answer["content-length"]) == (200, "2")
            assert (await client.get()).body == b"ok"
            await client.close()

    run(main())


@pytest.mark.parametrize("size", [0, 1, 100_000, 256 * 1024, 256 * 1024 + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_echo_of_any_size(run: Run, size: int, chunked: bool) -> None:
    async def main() -> None:
        body = os.urandom(size)
        async with stack(echo) as s:
            client = await s.connect()
            for _ in range(2):
                reading = asyncio.ensure_future(client.response())
                if chunked:
                    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for start in range(0, size, 300_000):
                        piece = body[start : start + 300_000]
                        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await client.send(b"0\r\n\r\n")
                else:
                    await client.send(
                        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body
                    )
                assert (await reading).body == body
            await client.close()

    run(main())


def test_small_bodies_go_inline_and_big_ones_as_uploads(run: Run) -> None:
    async def main() -> None:
        async with stack(echo) as s:
            client = await s.connect()
            for size in (256 * 1024, 256 * 1024 + 1):
                await client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
                )
                assert len((await client.response()).body) == size
            assert [call.body is not None and call.head.kind for call in s.calls] == [1, 1]
            small, big = s.calls
            assert len(small.body) == 256 * 1024
            assert len(big.body) <= 256 * 1024
            await client.close()

    run(main())


def test_a_chunked_request_is_live_in_both_directions(run: Run) -> None:
    async def main() -> None:
        async with stack(echo) as s:
            client = await s.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            assert (await client.head())[0] == 200
            chunks = client.chunks()
            assert await anext(chunks) == b"one"
            await client.send(b"3\r\ntwo\r\n")
            assert await anext(chunks) == b"two"
            await client.send(b"0\r\n\r\n")
            assert [chunk async for chunk in chunks] == []
            assert (await client.get()).status == 200
            await client.close()

    run(main())


def test_expect_continue(run: Run) -> None:
    async def main() -> None:
        async with stack(echo) as s:
            client = await s.connect()
            for size in (3, 300_000):
                head = (
                    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size
                )
                await client.send(head)
                assert (await client.head())[0] == 100
                await client.send(b"x" * size)
                assert (await client.response()).body == b"x" * size
            await client.close()

    run(main())


def test_expect_continue_behind_another_request_waits_for_its_turn(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            client = await s.connect()
            await client.send(
                GET + b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            await until(lambda: len(s.calls) == 1)
            ok(s.calls[0])
            assert (await client.response()).body == b"ok"
            assert (await client.head())[0] == 100
            await client.send(b"abc")
            await until(lambda: len(s.calls) == 2)
            assert s.calls[1].body == b"abc"
            await client.close()

    run(main())


def test_an_upload_is_held_back_by_a_replica_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: incoming.accept()) as s:
            client = await s.connect()
            size = 64 * 1024 * 1024
            client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.writer.write(bytes(size))
            transport = client.writer.transport
            before = -1
            while transport.get_write_buffer_size() != before:
                before = transport.get_write_buffer_size()
                for _ in range(200):
                    await asyncio.sleep(0)
            assert before > size // 2
            client.writer.transport.abort()

    run(main())


def test_a_response_is_held_back_by_a_client_that_does_not_read(run: Run) -> None:
    produced = 0

    def endless(incoming: Incoming) -> None:
        incoming.reply(ReplyHead(0, 200, TEXT), b"", end=False)

        def more() -> None:
            nonlocal produced
            while incoming.writable and produced < 256:
                incoming.send(bytes(256 * 1024))
                produced += 1

        incoming.on_writable = more
        incoming.on_cancel = lambda: incoming.fail(ErrorHead("cancelled"))
        more()

    async def main() -> None:
        async with stack(endless) as s:
            client = await s.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(GET)
            before = -1
            while produced != before or not produced:
                before = produced
                for _ in range(300):
                    await asyncio.sleep(0)
            assert before < 128
            client.writer.transport.abort()
            await until(lambda: s.router.ongoing("default#D") == 0)

    run(main())


def test_an_answer_before_the_upload_has_ended_closes_and_arrives(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: incoming.reply(ReplyHead(0, 403, TEXT), b"no")) as s:
            client = await s.connect()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + bytes(300_000)
            )
            answer = await client.response()
            assert (answer.status, answer.body, answer["connection"]) == (403, b"no", "close")
            await client.send(bytes(100_000))  # still taken, and dropped
            assert await client.rest() == b""
            await client.close()

    run(main())


def test_a_body_over_the_limit_is_413(run: Run) -> None:
    async def main() -> None:
        async with stack(echo, limits={"max_request_body_bytes": 400_000}) as s:
            client = await s.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400001\r\n\r\n")
            assert (await client.response()).status == 413
            assert s.calls == []
            await client.close()

    run(main())


def test_a_chunked_body_over_the_limit_is_413_and_cancels(run: Run) -> None:
    def take(incoming: Incoming) -> None:
        incoming.on_data = lambda chunk, end: incoming.consumed(len(chunk))
        incoming.on_cancel = lambda: incoming.fail(ErrorHead("cancelled"))
        incoming.accept()

    async def main() -> None:
        async with stack(take, limits={"max_request_body_bytes": 400_000}) as s:
            client = await s.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(5):
                await client.send(b"186a0\r\n" + bytes(100_000) + b"\r\n")
            assert (await client.response()).status == 413
            await until(lambda: s.router.ongoing("default#D") == 0)
            await client.close()

    run(main())


def test_a_bad_chunk_in_an_upload_cancels_the_call(run: Run) -> None:
    cancelled = 0

    def take(incoming: Incoming) -> None:
        def cancel() -> None:
            nonlocal cancelled
            cancelled += 1
            incoming.fail(ErrorHead("cancelled"))

        incoming.on_cancel = cancel
        incoming.accept()

    async def main() -> None:
        async with stack(take) as s:
            client = await s.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            await until(lambda: len(s.calls) == 1)
            await client.send(b"zz\r\n")
            assert (await client.response()).status == 400
            await until(lambda: cancelled == 1)
            await client.close()

    run(main())


def test_a_body_that_contradicts_its_length_is_cut_off(run: Run) -> None:
    def lie(incoming: Incoming) -> None:
        incoming.reply(ReplyHead(0, 200, [(b"content-length", b"10")]), b"12345", end=False)
        incoming.send(b"6789", end=True)

    async def main() -> None:
        async with stack(lie) as s:
            client = await s.connect()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.get()
            await client.close()

    run(main())


# ---- the sweep: time passes by calling it --------------------------------------------------------------------


def seconds_pass(s: Stack, seconds: int) -> None:
    for _ in range(seconds):
        s.connections.sweep()


async def served(s: Stack) -> Client:
    client = await s.connect()
    assert (await client.get("/-/healthz")).status == 200
    return client


def test_slow_headers_are_408(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await served(s)
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            await until(lambda: next(iter(s.connections._open))._reader.stage == 1)  # type: ignore[attr-defined]
            seconds_pass(s, 10)
            await client.send(b"a")
            seconds_pass(s, 1)
            assert (await client.response()).status == 408
            assert await client.rest() == b""
            await client.close()

    run(main())


def test_idle_connections_end_after_their_time(run: Run) -> None:
    async def main() -> None:
        async with stack(limits={"keep_alive_timeout_s": 20}) as s:
            mute = await s.connect()
            await until(lambda: len(s.connections) == 1)
            seconds_pass(s, 11)
            assert await mute.rest() == b""
            client = await served(s)
            seconds_pass(s, 19)
            assert (await client.get("/-/healthz")).status == 200
            seconds_pass(s, 22)
            assert await client.rest() == b""
            await mute.close()
            await client.close()

    run(main())


def test_a_running_request_is_not_idle(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            client = await s.connect()
            await client.send(GET)
            await until(lambda: len(s.calls) == 1)
            seconds_pass(s, 1000)
            ok(s.calls[0])
            assert (await client.response()).body == b"ok"
            await client.close()

    run(main())


def test_a_slow_body_is_dispatched_early_and_408_in_the_end(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            client = await s.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
            await until(lambda: len(s.connections) == 1)
            await until(lambda: next(iter(s.connections._open))._reader.received == 3)  # type: ignore[attr-defined]
            seconds_pass(s, 1)
            await until(lambda: len(s.calls) == 1)
            assert s.calls[0].body == b"abc"
            s.calls[0].on_cancel = lambda: s.calls[0].fail(ErrorHead("cancelled"))
            seconds_pass(s, 11)
            assert (await client.response()).status == 408
            await client.close()

    run(main())


def test_a_client_that_reads_nothing_is_cut_off(run: Run) -> None:
    def big(incoming: Incoming) -> None:
        incoming.reply(ReplyHead(0, 200, TEXT), bytes(30_000_000))
        incoming.on_cancel = lambda: incoming.fail(ErrorHead("cancelled"))

    async def main() -> None:
        async with stack(big) as s:
            client = await s.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(GET)
            await until(lambda: not all(c.writable for c in s.connections._open))  # type: ignore[attr-defined]
            seconds_pass(s, 32)
            await until(lambda: len(s.connections) == 0)
            await until(lambda: s.router.ongoing("default#D") == 0)
            client.writer.transport.abort()

    run(main())


def test_pipelined_requests_wait_for_a_client_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: incoming.reply(ReplyHead(0, 200, TEXT), bytes(100_000))) as s:
            client = await s.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            requests = 1000
            await client.send(GET * requests)
            before = -1
            while len(s.calls) != before or not before:
                before = len(s.calls)
                for _ in range(300):
                    await asyncio.sleep(0)
            assert before < requests // 2
            seconds_pass(s, 25)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(requests):
                assert len((await client.response()).body) == 100_000
            await client.close()

    run(main())


def test_the_sweep_timer_runs_only_while_connections_exist(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            assert s.connections._timer is None
            client = await served(s)
            assert s.connections._timer is not None
            await client.close()
            await until(lambda: len(s.connections) == 0)
            s.connections._timer.cancel()
            s.connections._on_timer()
            assert s.connections._timer is None

    run(main())


# ---- the listener --------------------------------------------------------------------------------------------


def test_accepting_pauses_without_descriptors_and_resumes_alone(run: Run) -> None:
    """The kernel is asked to run out: this process's limit is set to what is open."""

    async def main() -> None:
        async with stack() as s:
            client = await served(s)
            waiting = [socket.socket() for _ in range(12)]
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            filler = [os.open(os.devnull, os.O_RDONLY)]
            while filler[-1] < highest:
                filler.append(os.open(os.devnull, os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(filler) + 1, limits[1]))
            try:
                for sock in waiting:
                    sock.setblocking(False)
                    sock.connect_ex(s.address)
                await until(lambda: s.listener.is_paused)
                assert (await client.get()).body == b"ok"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in filler:
                    os.close(fd)
            await client.close()
            await until(lambda: not s.listener.is_paused)
            late = await served(s)
            await late.close()
            for sock in waiting:
                sock.close()

    run(main())
