"""ASGI WebSocket over a call: what an application sees as scope, receive and send is an `Incoming` on its loop.

Messages come as records that the proxy has packed, and are unpacked when the application asks for them; only then is
credit given, so an application that does not receive stops the client, and memory stays at what credit allows. What it
sends waits likewise until the client has taken it. That the client has gone is told by `receive` in its turn, and by
`send` at once: a ticker that never receives ends too.

Nothing here decides what a failed application means; its owner does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from eagleray.http.asgi import ASGI_VERSION, Answer, Exchange, Message, make_scope
from eagleray.http.outflow import Outflow
from eagleray.wire.messages import Headers, HttpHead
from eagleray.wire.streams import Incoming
from eagleray.wire.websocket import (
    ABNORMAL,
    BINARY,
    CLOSE,
    OK,
    RECORD,
    RECORD_SIZE,
    TEXT,
    may_be_sent,
    pack_close,
    pack_record,
    unpack_close,
)

CONNECTING, OPEN, DENYING, CLOSED = range(4)
"""DENYING: the application answers the handshake with an HTTP response of its own."""

_EXTENSIONS: dict[str, dict[str, Any]] = {"websocket.http.response": {}}
_DENIAL = "websocket.http.response."


class ClientDisconnectedError(OSError):
    """Raised by `send` once the client has gone, as ASGI 2.4 wants it; Starlette makes a WebSocketDisconnect of it."""


def make_websocket_scope(http: HttpHead) -> dict[str, Any]:
    """The ASGI scope of a WebSocket."""
    scope = make_scope(http)
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"] = ASGI_VERSION
    scope["scheme"] = "wss" if http.scheme == "https" else "ws"
    scope["subprotocols"] = [
        offer.strip()
        for name, value in http.headers
        if name == b"sec-websocket-protocol"
        for offer in value.decode("latin-1").split(",")
        if offer.strip()
    ]
    scope["extensions"] = _EXTENSIONS.copy()
    return scope


class WebSocket:
    """One WebSocket. The owner sets `incoming.on_data = websocket.on_data` before it accepts the call.

    `state` tells how far the application has come, `answered` that the call has its whole answer (a refusal). `closed`
    is (code, reason) once the application has closed it, `gone` once the client has, or is not there any more.
    """

    __slots__ = (
        "_answer",
        "_chunk",
        "_chunks",
        "_connected",
        "_denial",
        "_incoming",
        "_outflow",
        "_position",
        "_waiters",
        "answered",
        "closed",
        "gone",
        "state",
    )

    def __init__(self, incoming: Incoming, answer: Answer) -> None:
        self._incoming = incoming
        self._answer = answer
        self._chunk = b""
        self._position = 0
        self._chunks: deque[bytes] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._outflow: Outflow | None = None
        self._denial: Exchange | None = None
        self._connected = False
        self.state = CONNECTING
        self.answered = False
        self.closed: tuple[int, str] | None = None
        self.gone: tuple[int, str] | None = None

    # ---- the application's side: receive ---------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next event; after the end it is `websocket.disconnect` again and again."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        while self.closed is None:
            if self._position == len(self._chunk):
                if self._chunks:
                    self._chunk = self._chunks.popleft()
                    self._position = 0
                    continue
                if self.gone is not None:
                    return _disconnect(self.gone)
                await self._wait()
                continue
            message = self._unpack()
            if message is not None:
                return message
        return _disconnect(self.closed)

    def _unpack(self) -> Message | None:
        """The next record as an event; None for a CLOSE, which has been noted when it came."""
        chunk, position = self._chunk, self._position
        kind, size = RECORD.unpack_from(chunk, position)
        start = position + RECORD_SIZE
        self._position = end = start + size
        if end == len(chunk):
            self._chunk = b""
            self._position = 0
        self._incoming.consumed(end - position)
        if kind == TEXT:
            return {"type": "websocket.receive", "text": str(memoryview(chunk)[start:end], "utf-8")}
        if kind == BINARY:
            return {"type": "websocket.receive", "bytes": chunk[start:end]}
        return None

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ---- the application's side: send ------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Takes an event. Raises OSError when the client has gone, RuntimeError out of order."""
        kind = message["type"]
        outflow = self._outflow
        if self.gone is not None and self.closed is None:
            if kind != "websocket.close":
                raise ClientDisconnectedError("The client has gone.")
            self.closed = self.gone  # it is what the application wants
            self.state = CLOSED
        elif self.state == OPEN and outflow is not None:
            if kind == "websocket.send":
                outflow.push(_pack(message))
                if outflow.due:
                    await outflow.flow()
            elif kind == "websocket.close":
                self._close(outflow, message)
            else:
                raise _unexpected(kind, "the WebSocket is open: send 'websocket.send' or 'websocket.close'")
        elif self.state == CONNECTING:
            await self._answer_handshake(kind, message)
        elif self.state == DENYING and self._denial is not None and kind.startswith(_DENIAL):
            await self._deny(self._denial, kind, message)
        else:
            raise _unexpected(kind, "the WebSocket was closed")

    async def _answer_handshake(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            headers: Headers = [
                (bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ()
            ]
            subprotocol = message.get("subprotocol")
            if subprotocol:
                headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
            self._outflow = self._answer.begin(101, headers, b"")
            self.state = OPEN
        elif kind == "websocket.close":
            self._answer.answer(403, [], b"")
            self._refused()
        elif kind == _DENIAL + "start":
            self.state = DENYING
            self._denial = Exchange(self._incoming, self._answer)
            await self._deny(self._denial, kind, message)
        else:
            raise _unexpected(kind, "answer the handshake first: 'websocket.accept' or 'websocket.close'")

    async def _deny(self, denial: Exchange, kind: str, message: Message) -> None:
        await denial.send({**message, "type": kind.removeprefix("websocket.")})
        if denial.complete:
            self._refused()

    def _refused(self) -> None:
        self.answered = True
        self.state = CLOSED
        self.closed = (ABNORMAL, "")
        self._wake()

    def _close(self, outflow: Outflow, message: Message) -> None:
        code = int(message.get("code") or OK)
        if not may_be_sent(code):
            raise ValueError(
                f"A WebSocket cannot be closed with code {code}. Use 1000, another code of RFC 6455 that may be sent, "
                f"or one from 3000 to 4999."
            )
        reason = message.get("reason") or ""
        self.end(code, reason)

    # ---- the owner's side ------------------------------------------------------------------------------------

    @property
    def accepted(self) -> bool:
        """Whether the application has accepted the handshake."""
        return self._outflow is not None

    @property
    def begun(self) -> bool:
        """Whether the handshake has an answer, or the beginning of one."""
        return self.accepted or self.answered or (self._denial is not None and self._denial.begun)

    def end(self, code: int, reason: str) -> None:
        """Closes the open WebSocket towards the client."""
        outflow = self._outflow
        if self.state != OPEN or outflow is None:
            return
        self.state = CLOSED
        self.closed = (code, reason)
        outflow.push(pack_close(code, reason))
        self._wake()

    def on_data(self, chunk: bytes, end: bool) -> None:
        """Records from the client; the last one of all is its CLOSE."""
        if end:
            self.disconnect(*_last_close(chunk))
        if chunk:
            self._chunks.append(chunk)
        self._wake()

    def disconnect(self, code: int, reason: str) -> None:
        """The client has gone; what came from it before can still be received."""
        if self.gone is None:
            self.gone = (code, reason)
        self._wake()


def _pack(message: Message) -> bytes:
    data = message.get("bytes")
    if data is not None:
        return pack_record(BINARY, data if type(data) is bytes else bytes(memoryview(data)))
    text = message.get("text")
    if text is None:
        raise ValueError("ASGI message 'websocket.send' has neither 'bytes' nor 'text'.")
    return pack_record(TEXT, text.encode())


def _last_close(chunk: bytes) -> tuple[int, str]:
    """The CLOSE at the end of a direction: a message of its own."""
    if len(chunk) >= RECORD_SIZE and chunk[0] == CLOSE:
        return unpack_close(chunk[RECORD_SIZE:])
    return ABNORMAL, ""


def _disconnect(end: tuple[int, str]) -> Message:
    return {"type": "websocket.disconnect", "code": end[0], "reason": end[1]}


def _unexpected(kind: str, why: str) -> RuntimeError:
    return RuntimeError(f"Unexpected ASGI message '{kind}': {why}.")
