"""Surface 3.7: WebSockets through FastAPI and Starlette applications; section 10 check 14.

Without postponed annotations, which make Ray Serve misread the parameters of FastAPI views.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from starlette.requests import Request
from tests.compat.impl import App, Instance, differs, serve
from tests.compat.world import Journal
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

TIMEOUT_S = 30.0

api = FastAPI()


def user_of(websocket: WebSocket, user: str = "anonymous") -> str:
    return user + "/" + websocket.headers.get("x-team", "none")


@serve.deployment
class Child:
    async def __call__(self, text: str) -> str:
        return f"child: {text}"


@serve.deployment(max_ongoing_requests=20)
@serve.ingress(api)
class Sockets:
    def __init__(self, child: Any) -> None:
        self.child = child

    @api.websocket("/echo")
    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        journal = Journal(websocket.query_params["journal"])  # type: ignore[arg-type]
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message.get("reason"))
                if message.get("text") is not None:
                    await websocket.send_text(message["text"])
                else:
                    await websocket.send_bytes(message["bytes"])
        except WebSocketDisconnect as gone:
            journal.write(f"disconnect {gone.code}")

    @api.websocket("/rooms/{room}")
    async def room(self, websocket: WebSocket, room: int, user: str = Depends(user_of)) -> None:
        await websocket.accept(subprotocol="json", headers=[(b"x-room", b"%d" % room)])
        await websocket.send_json(
            {"room": room, "user": user, "path": websocket.url.path, "root": websocket.scope["root_path"]}
        )
        await websocket.send_text(await self.child.remote(await websocket.receive_text()))
        await websocket.close(code=4001, reason="that was all")

    @api.websocket("/refused")
    async def refused(self, websocket: WebSocket) -> None:
        await websocket.close(code=1008)

    @api.websocket("/fails")
    async def fails(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError("no")

    @api.websocket("/returns")
    async def returns(self, websocket: WebSocket) -> None:
        await websocket.accept()

    @api.websocket("/holds")
    async def holds(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())


@serve.deployment
class Plain:
    async def __call__(self, request: Request) -> str:
        return "plain"


@pytest.fixture(scope="module")
def sockets(instance: Instance) -> App:
    return instance.run(Sockets.bind(Child.bind()), name="sockets")


@contextmanager
def dial(app: App, path: str, **options: Any) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{app.instance.port}{app.prefix}{path}"
    with connect(url, open_timeout=TIMEOUT_S, **options) as client:
        yield client


def refusal(url: str) -> int:
    """The status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as info, connect(url, open_timeout=TIMEOUT_S):
        pass
    return info.value.response.status_code


def closed(client: ClientConnection) -> tuple[int, str]:
    """How the server has closed; 1006 when it sent no close frame."""
    with pytest.raises(ConnectionClosed) as info:
        client.recv(TIMEOUT_S)
    received = info.value.rcvd
    return (received.code, received.reason) if received is not None else (1006, "")


def test_text_and_binary_come_back(sockets: App, journal: Journal) -> None:
    with dial(sockets, f"/echo?journal={journal.path}") as client:
        for message in ("hello", "", "né 🎈", b"\x00\xff", b"x" * 500_000):
            client.send(message)
            assert client.recv(TIMEOUT_S) == message
        client.send(["in ", "fragments"])
        assert client.recv(TIMEOUT_S) == "in fragments"
        assert client.ping().wait(TIMEOUT_S)
    journal.wait_for("disconnect 1000")


def test_a_client_that_closes_with_a_code_is_a_disconnect(sockets: App, journal: Journal) -> None:
    with dial(sockets, f"/echo?journal={journal.path}") as client:
        client.close(4321, "bye")
    journal.wait_for("disconnect 4321")
    assert journal.lines() == ["disconnect 4321"]


def test_routes_dependencies_subprotocol_headers_and_a_close_code(sockets: App) -> None:
    with dial(
        sockets, "/rooms/7?user=ada", subprotocols=["json"], additional_headers={"x-team": "red"}
    ) as client:
        assert client.subprotocol == "json"
        assert client.response is not None and client.response.headers["x-room"] == "7"
        assert client.recv(TIMEOUT_S) == (
            '{"room":7,"user":"ada/red","path":"/sockets/rooms/7","root":"/sockets"}'
        )
        client.send("hello")
        assert client.recv(TIMEOUT_S) == "child: hello"
        assert closed(client) == (4001, "that was all")


@pytest.mark.parametrize("path", ["/refused", "/no/such/route"])
def test_a_close_before_accept_is_a_403(sockets: App, path: str) -> None:
    assert refusal(f"ws://127.0.0.1:{sockets.instance.port}{sockets.prefix}{path}") == 403


def test_several_sockets_at_once(sockets: App, journal: Journal) -> None:
    with ExitStack() as opened:
        clients = [opened.enter_context(dial(sockets, f"/echo?journal={journal.path}")) for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(str(number))
        assert [client.recv(TIMEOUT_S) for client in clients] == ["0", "1", "2", "3", "4"]
    journal.wait_for("disconnect 1000", count=5)


@differs("websocket-error")
def test_an_uncaught_exception_closes_with_1011(sockets: App) -> None:
    with dial(sockets, "/fails") as client:
        assert closed(client)[0] == 1011


@differs("websocket-return")
def test_an_application_that_returns_closes_with_1000(sockets: App) -> None:
    with dial(sockets, "/returns") as client:
        assert closed(client)[0] == 1000


@differs("websocket-timeout")
def test_the_request_timeout_closes_with_3008(sockets: App) -> None:
    with dial(sockets, "/holds", additional_headers={"x-request-timeout-seconds": "0.5"}) as client:
        client.send("in time")
        assert client.recv(TIMEOUT_S) == "in time"
        assert closed(client)[0] == 3008


@differs("websocket-plain")
def test_a_plain_deployment_refuses_with_403(instance: Instance) -> None:
    app = instance.run(Plain.bind())
    assert refusal(f"ws://127.0.0.1:{instance.port}{app.prefix}/") == 403
    assert app.get().text == "plain"


@differs("websocket-unknown-path")
def test_a_path_without_a_route_is_a_404(instance: Instance) -> None:
    assert refusal(f"ws://127.0.0.1:{instance.port}/nowhere") == 404
