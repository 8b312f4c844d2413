"""WebSockets through a whole instance: real proxy, real replica, a real client library, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from fastapi import Depends, FastAPI, Header, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.responses import JSONResponse, StreamingResponse
from tests.ports import free_port
from tests.processes import command_of
from tests.waiting import wait_until
from tests.websocket_frames import BINARY, CONT, TEXT, close, frame, opening, server_frames
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from eagleray import serve

DEADLINE_S = 20.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> Any:
    yield {"store": "open"}


api = FastAPI(lifespan=lifespan)


async def user_of(websocket: WebSocket, x_token: str = Header(default="")) -> str:
    if x_token == "wrong":
        raise WebSocketException(code=1008, reason="no such token")
    return x_token or "anonymous"


@serve.deployment
class Child:
    async def __call__(self, text: str) -> str:
        return f"child got {text}"


@serve.deployment(max_ongoing_requests=1000, graceful_shutdown_timeout_s=0.2)
@serve.ingress(api)
class Sockets:
    def __init__(self, child: Any) -> None:
        self.child = child
        self.events: list[str] = []

    @api.websocket("/echo")
    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                self.events.append(f"disconnect {message['code']} {message['reason']}".strip())
                return
            if "text" in message:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])

    @api.websocket("/rooms/{room}")
    async def room(self, websocket: WebSocket, room: int, user: str = Depends(user_of), q: str = "") -> None:
        await websocket.accept(subprotocol="json", headers=[(b"x-room", str(room).encode())])
        context = serve.context._get_serve_request_context()
        await websocket.send_json(
            {
                "room": room,
                "user": user,
                "q": q,
                "store": websocket.state.store,
                "offered": websocket.scope["subprotocols"],
                "url": str(websocket.url.path),
                "scheme": websocket.url.scheme,
                "request_id": context.request_id,
                "child": await self.child.remote("it"),
            }
        )
        await websocket.close(4001, "that was all")

    @api.websocket("/uncaught")
    async def uncaught(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()  # raises WebSocketDisconnect, as in most examples

    @api.websocket("/fails")
    async def fails(self, websocket: WebSocket, before: bool = False) -> None:
        if before:
            raise ValueError("boom before")
        await websocket.accept()
        await websocket.send_text("first")
        raise ValueError("boom after")

    @api.websocket("/returns")
    async def returns(self, websocket: WebSocket) -> None:
        await websocket.accept()

    @api.websocket("/silent")
    async def silent(self, websocket: WebSocket) -> None:
        return

    @api.websocket("/denies")
    async def denies(self, websocket: WebSocket, stream: bool = False) -> None:
        answer: Any = JSONResponse({"denied": True}, 451, {"x-why": "law"})
        if stream:
            answer = StreamingResponse(iter(["in ", "pieces"]), 401)
        await websocket.send_denial_response(answer)

    @api.websocket("/ticker")
    async def ticker(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:  # never receives: only `send` can tell it that the client has gone
                await websocket.send_text("tick")
                await asyncio.sleep(0.001)
        except WebSocketDisconnect as gone:
            self.events.append(f"ticker {gone.code}")

    @api.websocket("/floods")
    async def floods(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.sent = 0
        chunk = bytes(64 * 1024)
        try:
            while True:
                await websocket.send_bytes(chunk)
                self.sent += 1
        except WebSocketDisconnect as gone:
            self.events.append(f"flood {gone.code}")

    @api.websocket("/deaf")
    async def deaf(self, websocket: WebSocket) -> None:
        """Receives only when told so over HTTP."""
        self.gate = asyncio.Event()
        await websocket.accept()
        await self.gate.wait()
        received = 0
        try:
            while True:
                received += len(await websocket.receive_bytes())
        except WebSocketDisconnect as gone:
            self.events.append(f"deaf {received} {gone.code}")

    @api.websocket("/holds")
    async def holds(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    @api.post("/open")
    async def open(self) -> None:
        self.gate.set()

    @api.get("/events")
    async def list_events(self) -> list[str]:
        return self.events

    @api.get("/sent")
    async def count_sent(self) -> int:
        return self.sent

    async def die(self) -> None:
        os._exit(1)

    async def ongoing(self) -> int:
        """Calls under way in this replica, without this one."""
        return sum(task.get_name() == "call" for task in asyncio.all_tasks()) - 1

    async def happened(self) -> list[str]:
        return self.events


@serve.deployment
def plain(request: Any) -> str:
    return "not a socket"


only = FastAPI()


@serve.deployment(max_ongoing_requests=1)
@serve.ingress(only)
class One:
    @only.websocket("/")
    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)


class Served:
    def __init__(self, port: int, handle: Any) -> None:
        self.port = port
        self.handle = handle

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def events(self) -> list[str]:
        found: list[str] = self.handle.happened.remote().result(timeout_s=DEADLINE_S)
        return found

    def wait_for_event(self, event: str) -> None:
        wait_until(lambda: event in self.events())

    def raw(self, path: str, *extra: str) -> socket.socket:
        """A socket after its handshake."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)
        sock.sendall(opening(path, *extra))
        assert read_head(sock).startswith(b"HTTP/1.1 101 ")
        return sock


def urlopen(served: Served, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}{path}", method=method)
    return urllib.request.urlopen(request, timeout=DEADLINE_S)


def proxy_and_replicas() -> tuple[psutil.Process, list[psutil.Process]]:
    children = psutil.Process().children(recursive=True)
    proxies = [child for child in children if command_of(child.pid) == "er:proxy"]
    return proxies[0], [child for child in children if command_of(child.pid).startswith("er:replica")]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    port = free_port()
    serve.start(
        http_options={
            "port": port,
            "websocket_max_message_bytes": 1_000_000,
        }
    )
    handle = serve.run(Sockets.bind(Child.bind()), name="main", route_prefix="/app")
    serve.run(plain.bind(), name="plain", route_prefix="/plain")
    yield Served(port, handle)
    serve.shutdown()


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Code and reason of the server's close frame."""
    with pytest.raises(ConnectionClosed) as info:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await client.recv()
    received = info.value.rcvd
    return (received.code, received.reason) if received is not None else (1006, "")


async def refused(url: str, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as info:
        await connect(url, **options)
    return info.value.response


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, head
        head += byte
    return head


def next_frames(sock: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """The next frames, when they are all there; what comes behind them must not be there yet."""
    data = b""
    while len(frames := list(server_frames(data))) < count:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return frames


def read_until_closed(sock: socket.socket) -> None:
    """Reads to the server's close frame, answers it and sees the end."""
    next_frames(sock, 2)
    sock.sendall(close(1000))
    while sock.recv(65536):
        pass


def read_frames(sock: socket.socket) -> list[tuple[int, bytes]]:
    """All frames up to the end of the connection."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return list(server_frames(data))


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_text_binary_and_fragments_come_back(served: Served, compression: str | None) -> None:
    async def main() -> None:
        async with connect(served.url("/app/echo"), compression=compression, max_size=None) as client:
            assert ("sec-websocket-extensions" in client.response.headers) == (compression is not None)
            for message in ("", "héllo 🎈", b"", b"\x00\xff" * 1000, "x" * 1_000_000, os.urandom(1_000_000)):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["frag", "ments", "", " of text"])
            assert await client.recv() == "fragments of text"
            await client.send([b"and", b" bytes"])
            assert await client.recv() == b"and bytes"
            await (await client.ping(b"are you there"))
            many = [f"message {number}" for number in range(2000)]
            for text in many:
                await client.send(text)
            assert [await client.recv() for _ in many] == many

    asyncio.run(main())


def test_routes_dependencies_subprotocol_headers_state_and_close_code(served: Served) -> None:
    async def main() -> None:
        headers = {"x-token": "sesame", "x-request-id": "mine"}
        async with connect(
            served.url("/app/rooms/7?q=hé"), subprotocols=["other", "json"], additional_headers=headers
        ) as client:
            assert client.subprotocol == "json"
            assert client.response.headers["x-room"] == "7"
            assert client.response.headers["x-request-id"] == "mine"
            assert json.loads(await client.recv()) == {
                "room": 7,
                "user": "sesame",
                "q": "hé",
                "store": "open",
                "offered": ["other", "json"],
                "url": "/app/rooms/7",
                "scheme": "ws",
                "request_id": "mine",
                "child": "child got it",
            }
            assert await closed(client) == (4001, "that was all")
        assert (
            await refused(served.url("/app/rooms/7"), additional_headers={"x-token": "wrong"})
        ).status_code == 403
        assert (await refused(served.url("/app/rooms/none"))).status_code == 403

    asyncio.run(main())


def test_refusals(served: Served) -> None:
    async def main() -> None:
        answer = await refused(served.url("/app/denies"))
        assert (answer.status_code, bytes(answer.body), answer.headers["x-why"]) == (
            451,
            b'{"denied":true}',
            "law",
        )
        answer = await refused(served.url("/app/denies?stream=1"))
        assert (answer.status_code, bytes(answer.body)) == (401, b"in pieces")
        assert (await refused(served.url("/app/no/such/route"))).status_code == 403
        assert (await refused(served.url("/elsewhere"))).status_code == 404
        answer = await refused(served.url("/plain"))
        assert answer.status_code == 403 and b"does not speak WebSocket" in bytes(answer.body)
        for path in ("/app/fails?before=1", "/app/silent"):
            answer = await refused(served.url(path))
            assert (answer.status_code, bytes(answer.body)) == (500, b"Internal Server Error")

    asyncio.run(main())


def test_close_codes_of_an_application(served: Served) -> None:
    async def main() -> None:
        async with connect(served.url("/app/fails")) as client:
            assert await client.recv() == "first"
            assert await closed(client) == (1011, "Internal Server Error")
        async with connect(served.url("/app/returns")) as client:
            assert await closed(client) == (1000, "")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "reason", "event"),
    [(1000, "bye", "disconnect 1000 bye"), (4321, "", "disconnect 4321"), (1001, "", "disconnect 1001")],
)
def test_the_application_hears_how_the_client_closed(
    served: Served, code: int, reason: str, event: str
) -> None:
    async def main() -> None:
        client = await connect(served.url("/app/echo"))
        await client.close(code, reason)

    asyncio.run(main())
    served.wait_for_event(event)


def test_a_client_that_vanishes_is_a_disconnect_for_who_receives_and_who_sends(served: Served) -> None:
    served.raw("/app/echo").close()
    served.wait_for_event("disconnect 1006")
    served.raw("/app/ticker").close()
    served.wait_for_event("ticker 1006")


def test_a_message_over_the_limit_closes_with_1009(served: Served) -> None:
    async def main() -> None:
        for compression in (None, "deflate"):
            async with connect(served.url("/app/echo"), compression=compression) as client:
                await client.send(b"x" * 1_000_001)
                assert (await closed(client))[0] == 1009

    asyncio.run(main())
    wait_until(lambda: any(event.startswith("disconnect 1009") for event in served.events()))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"a", masked=False), 1002),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
def test_malformed_frames_end_their_connection_only(served: Served, data: bytes, code: int) -> None:
    proxy, replicas = proxy_and_replicas()
    with served.raw("/app/echo") as good, served.raw("/app/echo") as bad:
        bad.sendall(data + frame(TEXT, b"after") * 1000)
        *_, (first, payload) = read_frames(bad)
        assert first == 0x88 and int.from_bytes(payload[:2], "big") == code
        good.sendall(frame(TEXT, b"still here"))
        assert next_frames(good, 1) == [(0x81, b"still here")]
    assert proxy.is_running() and all(replica.is_running() for replica in replicas)


def test_frames_that_come_with_the_handshake_are_not_lost(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_S) as sock:
        sock.sendall(opening("/app/echo") + frame(TEXT, b"early") + frame(BINARY, b"", fin=False))
        sock.sendall(frame(CONT, b"late"))
        assert read_head(sock).startswith(b"HTTP/1.1 101 ")
        assert next_frames(sock, 2) == [(0x81, b"early"), (0x82, b"late")]


def test_a_refused_handshake_ends_the_connection(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_S) as sock:
        sock.sendall(opening("/plain") + b"GET /app/events HTTP/1.1\r\nhost: t\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.startswith(b"HTTP/1.1 403 ") and data.count(b"HTTP/1.1") == 1


def test_a_client_that_does_not_read_stops_the_application(served: Served) -> None:
    def sent() -> int:
        with urlopen(served, "/app/sent") as answer:
            return int(answer.read())

    proxy, replicas = proxy_and_replicas()
    before = [process.memory_info().rss for process in (proxy, *replicas)]
    sock = served.raw("/app/floods")
    last = -1
    quiet = 0
    while quiet < 20:
        now = sent()
        quiet = quiet + 1 if now == last else 0
        last = now
    assert last * 64 * 1024 < 16_000_000, "socket buffers, one window, two high-water marks"
    after = [process.memory_info().rss for process in (proxy, *replicas)]
    assert all(b - a < 16_000_000 for a, b in zip(before, after, strict=True))
    sock.close()
    wait_until(lambda: any(event.startswith("flood ") for event in served.events()))


def test_an_application_that_does_not_receive_stops_the_client(served: Served) -> None:
    sock = served.raw("/app/deaf")
    sock.setblocking(False)
    data = frame(BINARY, bytes(50_000)) * 20
    messages = 20
    accepted = 0
    blocked = 0
    waiting = threading.Event()
    while blocked < 100 and accepted < 100_000_000:
        try:
            accepted += sock.send(data[accepted % len(data) :])
            blocked = 0
        except BlockingIOError:
            blocked += 1
            waiting.wait(0.005)
    assert accepted < 30_000_000
    sock.setblocking(True)
    rest = data[accepted % len(data) :] if accepted % len(data) else b""
    urlopen(served, "/app/open", "POST").close()
    sock.sendall(rest + close(1000))
    assert read_frames(sock)[-1][0] == 0x88
    sock.close()
    total = (accepted + len(rest)) // len(data) * messages * 50_000
    served.wait_for_event(f"deaf {total} 1000")


def counters(served: Served) -> dict[str, int]:
    """What proxy and replica hold: all of it must be as before when nothing is under way."""
    proxy, replicas = proxy_and_replicas()
    state = {f"fds of {process.pid}": process.num_fds() for process in (proxy, *replicas)}
    state["ongoing"] = served.handle.ongoing.remote().result(timeout_s=DEADLINE_S)
    return state


def test_a_thousand_clients_that_leave_at_random_leave_nothing_behind(served: Served) -> None:
    """Abrupt and polite ends at any byte of handshake and frames; every slot is free and every descriptor closed."""
    dice = random.Random(7)
    with served.raw("/app/rooms/1") as sock:
        read_until_closed(sock)  # the connection to the child is dialled by the first call
    before = counters(served)
    talk = [
        opening("/app/echo"),
        frame(TEXT, b"hello"),
        frame(BINARY, bytes(100_000)),
        frame(TEXT, b"half", fin=False),
        close(1000),
    ]
    paths = [
        "/app/echo",
        "/app/ticker",
        "/app/uncaught",
        "/app/fails",
        "/app/returns",
        "/app/rooms/1",
        "/plain",
    ]

    async def one() -> None:
        path = dice.choice(paths)
        data = b"".join([opening(path), *dice.choices(talk[1:], k=dice.randint(0, 4))])
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        data = data[: dice.randint(1, len(data))]
        writer.write(data)
        for _ in range(dice.choice([0, 0, 1, 5, 50])):
            await asyncio.sleep(0)
        if b"\r\n\r\n" in data and dice.random() < 0.5:
            await reader.read(dice.choice([1, 100, 10_000]))
        if dice.random() < 0.5:
            writer.transport.abort()
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass

    async def main() -> None:
        for _ in range(40):
            await asyncio.gather(*[asyncio.create_task(one(), name="visitor") for _ in range(25)])

    asyncio.run(main())
    wait_until(lambda: counters(served) == before)
    assert sum(event.startswith(("disconnect", "ticker")) for event in served.events()) > 50


def test_a_slot_is_held_and_the_next_client_waits(served: Served) -> None:
    serve.run(One.bind(), name="one", route_prefix="/one")

    async def main() -> None:
        async with connect(served.url("/one/")) as first:
            second = asyncio.create_task(connect(served.url("/one/")).__aenter__(), name="second")
            for number in range(50):
                await first.send(str(number))
                assert await first.recv() == str(number)
            assert not second.done()
        async with await second as client:
            await client.send("mine")
            assert await client.recv() == "mine"

    asyncio.run(main())
    serve.delete("one")


def test_the_death_of_a_replica_is_a_1011_and_the_next_one_serves(served: Served) -> None:
    async def main() -> None:
        async with connect(served.url("/app/echo")) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            dying = asyncio.to_thread(served.handle.die.remote().result, timeout_s=DEADLINE_S)
            assert (await closed(client))[0] == 1011
            with pytest.raises(Exception, match="died"):
                await dying
        async with connect(served.url("/app/echo")) as client:
            await client.send("again")
            assert await client.recv() == "again"

    asyncio.run(main())
