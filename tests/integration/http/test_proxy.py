"""The proxy towards a well-behaved client and replica: routes, headers, built-in paths, errors."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from tests.integration.http.conftest import Run
from tests.integration.http.stack import TEXT, Stack, ok, stack, until

from eagleray.routing import RoutingTable
from eagleray.rpc.server import Incoming
from eagleray.wire.messages import ErrorHead, HttpHead, ReplyHead


def http_of(incoming: Incoming) -> HttpHead:
    assert incoming.head.http is not None
    return incoming.head.http


def test_a_request_goes_to_the_replica_and_back(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await s.connect()
            answer = await client.get("/a%20b?x=1", headers="X-Mine: 1\r\n")
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer["server"] == "eagleray" and answer["date"].endswith("GMT")
            assert re.fullmatch(
                r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", answer["x-request-id"]
            )
            (call,) = s.calls
            http = http_of(call)
            assert (http.method, http.path, http.raw_path, http.query_string) == (
                "GET",
                "/a b",
                b"/a%20b",
                b"x=1",
            )
            assert (b"x-mine", b"1") in http.headers
            assert (b"x-request-id", answer["x-request-id"].encode()) in http.headers
            assert http.client == client.writer.get_extra_info("sockname")
            assert http.server == s.address
            assert call.head.request_id == answer["x-request-id"]
            assert (call.head.app, call.head.route) == ("default", "/")
            await client.close()
            assert s.log() == ["GET / 200"]

    run(main())


def test_known_headers_steer_the_call(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await s.connect()
            answer = await client.get(
                headers="X-Request-ID: mine\r\nserve_multiplexed_model_id: m1\r\nX-Session-Id: s1\r\n"
                "x-request-timeout-seconds: 30\r\n"
            )
            assert answer.all("x-request-id") == ["mine"]
            head = s.calls[0].head
            assert (head.request_id, head.multiplexed_model_id, head.session_id) == ("mine", "m1", "s1")
            assert head.deadline > 0
            await client.get(headers="Serve-Multiplexed-Model-Id: m2\r\nx-request-timeout-seconds: 0\r\n")
            assert (s.calls[1].head.multiplexed_model_id, s.calls[1].head.deadline) == ("m2", 0.0)
            await client.close()

    run(main())


def test_the_replicas_own_request_id_is_replaced_not_doubled(run: Run) -> None:
    def answer(incoming: Incoming) -> None:
        incoming.reply(ReplyHead(0, 200, [(b"x-request-id", b"other")]), b"")

    async def main() -> None:
        async with stack(answer) as s:
            client = await s.connect()
            assert (await client.get(headers="X-Request-ID: mine\r\n")).all("x-request-id") == ["mine"]
            await client.close()

    run(main())


def test_longest_prefix_and_root_path(run: Run) -> None:
    async def main() -> None:
        async with stack(root_path="/out") as s:
            s.router.update(s.table("/a", "/a/b", version=2))
            client = await s.connect()
            assert (await client.get("/a/b/c")).status == 200
            assert (await client.get("/a/bc")).status == 200
            assert (await client.get("/ab")).status == 404
            first, second = (http_of(call) for call in s.calls)
            assert (first.root_path, first.path, first.raw_path) == ("/out/a/b", "/out/a/b/c", b"/out/a/b/c")
            assert second.root_path == "/out/a"
            assert s.calls[0].head.route == "/a/b"
            await client.close()

    run(main())


def test_no_route_is_404_with_the_known_text(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            s.router.update(s.table("/a", version=2))
            client = await s.connect()
            answer = await client.get("/x%20y", headers="X-Request-ID: r1\r\n")
            assert answer.status == 404
            assert answer.body == b"Path '/x y' not found. Ping http://.../-/routes for available routes."
            assert (answer["x-request-id"], answer["content-type"]) == ("r1", "text/plain; charset=utf-8")
            await client.close()
            assert s.log() == ["GET  404"]

    run(main())


def test_built_in_paths(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            client = await s.connect()
            healthy = await client.get("/-/healthz", method="POST")
            assert (healthy.status, healthy.body) == (200, b"success")
            assert healthy["x-request-id"]
            assert (await client.get("/-/routes")).body == b'{"/":"default"}'
            assert (await client.get("/-/mine")).body == b"ok", "only the two are ours"
            s.log()
            s.lines.clear()
            s.router.update(RoutingTable(2, populated=True))
            assert (await client.get("/-/routes")).body == b"{}"
            s.router.update(RoutingTable(3))
            for path in ("/-/healthz", "/-/routes"):
                early = await client.get(path)
                assert (early.status, early.body) == (503, b"Route table is not populated yet.")
            s.connections.draining = True
            assert (await client.get("/-/healthz")).body == b"This node is being drained."
            assert s.log() == []
            await client.close()

    run(main())


async def refusal_of(s: Stack, **entry: object) -> tuple[int, bytes, list[str]]:
    s.router.update(s.table("/", version=s.router.table.version + 1, **entry))
    client = await s.connect()
    answer = await client.get()
    await client.close()
    return answer.status, answer.body, answer.all("retry-after")


def test_queue_full_says_when_to_retry(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            s.router.update(s.table("/", version=2, max_ongoing=1))
            holder = await s.connect()
            await holder.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: len(s.calls) == 1)
            text = b"Request dropped due to backpressure (num_queued_requests=0, max_queued_requests=0)."
            options = {"max_ongoing": 1, "max_queued": 0}
            assert await refusal_of(s, **options) == (503, text, ["1"])
            options |= {"backpressure_status": 429, "backpressure_retry_after_s": 1.2}
            assert await refusal_of(s, **options) == (429, text, ["2"])
            await holder.close()

    run(main())


def test_a_failed_deployment_is_503(run: Run) -> None:
    async def main() -> None:
        async with stack() as s:
            table = s.table("/", version=2)
            (entry,) = table.deployments.values()
            failed = type(entry)(entry.app, entry.name, (), failed="boom")
            s.router.update(RoutingTable(2, table.routes, {"default#D": failed}, populated=True))
            client = await s.connect()
            answer = await client.get()
            assert answer.status == 503
            assert (
                answer.body
                == b"Deployment(name='D', app='default') is unavailable because it failed to deploy."
            )
            await client.close()

    run(main())


def test_a_user_error_is_a_plain_500(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: incoming.fail(ErrorHead("user"), b"secret")) as s:
            client = await s.connect()
            answer = await client.get()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
            assert (await client.get()).status == 500, "the connection lives on"
            await client.close()

    run(main())


def test_a_dead_replica_is_502_and_names_the_request(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            client = await s.connect()
            head = b"POST / HTTP/1.1\r\nHost: a\r\nX-Request-ID: r1\r\nContent-Length: 0\r\n\r\n"
            await client.send(head)
            await until(lambda: bool(s.calls))
            for connection in tuple(s.replica.connections):
                connection.close()
            answer = await client.response()
            assert answer.status == 502 and b"r1" in answer.body
            assert len(s.calls) == 1, "it may have run, so it is not sent again"
            await client.close()

    run(main())


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_what_asks_for_no_change_is_sent_again_once(run: Run, method: bytes) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            client = await s.connect()
            version = 1
            for deaths in (1, 2):
                await client.send(method + b" / HTTP/1.1\r\nHost: a\r\nX-Request-ID: r1\r\n\r\n")
                s.calls.clear()
                for count in range(1, deaths + 1):
                    await until(lambda count=count: len(s.calls) == count)
                    for connection in tuple(s.replica.connections):
                        connection.close()
                    version += 1
                    s.router.update(s.table("/", version=version, name=f"r{version}"))
                if deaths == 1:
                    await until(lambda: len(s.calls) == 2)
                    s.calls[1].reply(ReplyHead(0, 200, []), b"")
                answer = await client.response(method=method.decode())
                assert answer.status == (200 if deaths == 1 else 502)
                assert len(s.calls) == 2
            await client.close()

    run(main())


@pytest.mark.parametrize("bad", [[(b"x", b"a\r\nb: c")], [(b"content-length", b"99")]])
def test_a_response_that_cannot_be_sent_is_500(run: Run, bad: list[tuple[bytes, bytes]]) -> None:
    async def main() -> None:
        async with stack(lambda incoming: incoming.reply(ReplyHead(0, 200, bad), b"ok")) as s:
            client = await s.connect()
            assert (await client.get()).status == 500
            assert (await client.get()).status == 500
            await client.close()

    run(main())


def test_timeout_is_408_and_cancels_the_call(run: Run) -> None:
    cancelled: list[str] = []

    def hang(incoming: Incoming) -> None:
        def cancel() -> None:
            cancelled.append(incoming.head.request_id)
            incoming.fail(ErrorHead("cancelled"))

        incoming.on_cancel = cancel

    async def main() -> None:
        async with stack(hang, request_timeout_s=0.05) as s:
            client = await s.connect()
            answer = await client.get(headers="X-Request-ID: r1\r\n")
            assert (answer.status, answer.body) == (408, b"Request r1 timed out after 0.05s.")
            answer = await client.get(headers="X-Request-ID: r2\r\nx-request-timeout-seconds: 0.01\r\n")
            assert answer.body == b"Request r2 timed out after 0.01s."
            await until(lambda: cancelled == ["r1", "r2"])
            await until(lambda: s.router.ongoing("default#D") == 0)
            assert s.log() == ["GET / 408", "GET / 408"]
            await client.close()

    run(main())


def test_timeout_after_the_first_byte_cuts_the_connection(run: Run) -> None:
    def half(incoming: Incoming) -> None:
        incoming.reply(ReplyHead(0, 200, TEXT), b"half", end=False)
        incoming.on_cancel = lambda: incoming.fail(ErrorHead("cancelled"))

    async def main() -> None:
        async with stack(half, request_timeout_s=0.05) as s:
            client = await s.connect()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.get()
            assert s.log() == ["GET / 408"]
            await client.close()

    run(main())


def test_disconnect_cancels_unless_disabled(run: Run) -> None:
    cancelled: list[str] = []

    def hang(incoming: Incoming) -> None:
        def cancel() -> None:
            cancelled.append(incoming.head.request_id)
            incoming.fail(ErrorHead("cancelled"))

        incoming.on_cancel = cancel

    async def main() -> None:
        async with stack(hang) as s:
            stays, leaves = await s.connect(), await s.connect()
            await stays.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: r1\r\nx-request-disconnect-disabled: ?1\r\n\r\n"
            )
            await leaves.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: r2\r\n\r\n")
            await until(lambda: len(s.calls) == 2)
            await stays.close()
            await until(lambda: len(s.connections) == 1)
            await leaves.close()
            await until(lambda: cancelled == ["r2"])
            (kept,) = [call for call in s.calls if call.head.request_id == "r1"]
            ok(kept)
            await until(lambda: s.router.ongoing("default#D") == 0)
            assert cancelled == ["r2"]
            assert s.log() == ["GET / 499", "GET / 499"]

    run(main())


def test_drain_finishes_what_is_under_way(run: Run) -> None:
    async def main() -> None:
        async with stack(lambda incoming: None) as s:
            idle, busy = await s.connect(), await s.connect()
            await idle.send(b"GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await idle.response()).status == 200
            await busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: len(s.calls) == 1)
            s.listener.stop()
            draining = asyncio.ensure_future(s.connections.drain(10.0))
            assert await idle.rest() == b""
            ok(s.calls[0])
            answer = await busy.response()
            assert (answer.status, answer["connection"]) == (200, "close")
            assert await busy.rest() == b""
            await draining
            await idle.close()
            await busy.close()

    run(main())


def test_drain_answers_those_who_have_just_connected(run: Run) -> None:
    async def main() -> None:
        async with stack(ok) as s:
            with (
                socket.create_connection(s.address) as sends,
                socket.create_connection(s.address) as hesitates,
                socket.create_connection(s.address) as silent,
            ):
                sends.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await s.listener.finish(10.0)
                assert len(s.connections) == 3
                draining = asyncio.ensure_future(s.connections.drain(10.0))
                await asyncio.sleep(0)
                hesitates.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                for client in (sends, hesitates):
                    client.setblocking(False)
                    answer = await asyncio.get_running_loop().sock_recv(client, 65536)
                    assert answer.startswith(b"HTTP/1.1 200 ")
                await until(lambda: len(s.connections) == 1)
                s.connections.sweep()
                await draining
                silent.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""

    run(main())
