"""One WebSocket's life in the proxy: an exchange until the handshake is answered, a relay of messages after it.

A refusal is an ordinary HTTP response. After a 101 the client's connection speaks WebSocket, and whole messages go both
ways over the call's stream, each side held back by the other. The conversation ends for the client, and in the access
log, with the first close: the client's, the application's, or ours. The call itself ends with the application.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from eagleray.base.errors import EaglerayError
from eagleray.http.connection import HttpConnection
from eagleray.http.request import Request
from eagleray.http.response import TEXT, BadResponseError, encode_switch
from eagleray.http.websocket import HandshakeRefused, WebSocketProtocol
from eagleray.http.websocket_connection import WebSocketConnection
from eagleray.proxy.exchange import Exchange
from eagleray.wire.messages import CallHead, ErrorHead, Headers, ReplyHead
from eagleray.wire.websocket import (
    CLOSE,
    INTERNAL_ERROR,
    OK,
    RECORD,
    RECORD_SIZE,
    SERVICE_RESTART,
    TIMEOUT,
    pack_close,
    unpack_close,
)

if TYPE_CHECKING:
    from eagleray.proxy.observing import Observing
    from eagleray.proxy.server import ProxyServer

_CODES = {408: TIMEOUT, 503: SERVICE_RESTART}
"""HTTP status of a failure -> close code where the failure comes after the handshake; others are 1011."""

_LAST_MESSAGES_S = 30.0
"""How long a replica may take what a client had sent before it closed, when that is more than it has room for."""

_DRAINING = b"This node is being drained."


def open_websocket(
    server: ProxyServer,
    connection: HttpConnection,
    request: Request,
    key: str,
    head: CallHead,
    request_id: bytes,
    observing: Observing | None = None,
) -> WebSocketExchange | int:
    """The exchange of a handshake that is in order, or the status with which it has been refused."""
    try:
        protocol = WebSocketProtocol.open(request, server.connections.limits)
    except HandshakeRefused as refused:
        connection.respond(refused.status, refused.headers, refused.text.encode(), request_id)
        return refused.status
    given = server, connection, request, key, head, request_id, protocol
    watch = None if observing is None else observing.open(head, request.headers, request.known)
    if watch is None:
        return WebSocketExchange(*given)
    from eagleray.proxy.watched_websocket import WatchedWebSocket

    exchange = WatchedWebSocket(*given)
    exchange.watch = watch
    watch.submitted(exchange)
    return exchange


class WebSocketExchange(Exchange):
    """Made by `open_websocket`; call `limit` once, before it is submitted to the router."""

    __slots__ = ("_farewell", "_lifetime_s", "_opened", "_protocol", "_socket")

    def __init__(
        self,
        server: ProxyServer,
        connection: HttpConnection,
        request: Request,
        key: str,
        head: CallHead,
        request_id: bytes,
        protocol: WebSocketProtocol,
    ) -> None:
        super().__init__(server, connection, request, key, head, request_id)
        self.method = "WS"
        self._protocol = protocol
        self._socket: WebSocketConnection | None = None
        self._lifetime_s = 0.0
        self._opened = False
        self._farewell = b""

    # ---- times -----------------------------------------------------------------------------------------------

    def limit(self, lifetime_s: float) -> None:
        """Starts the clocks: `lifetime_s` (0: no limit) is for all of it, the setting for the handshake alone."""
        self._lifetime_s = lifetime_s
        if lifetime_s > 0:
            self.head.deadline = self.came_at + lifetime_s
        opening_s = self._server.connections.limits.websocket_open_timeout_s
        self._timeout_s = min((s for s in (lifetime_s, opening_s) if s > 0), default=0.0)
        self._arm(self._timeout_s)

    def _arm(self, timeout_s: float) -> None:
        self._disarm()
        if timeout_s > 0:
            self._bucket = self._server.deadlines.add(self, timeout_s)

    def _arm_lifetime(self, at_most_s: float = 0.0) -> None:
        left_s = max(self.head.deadline - monotonic(), 0.001) if self.head.deadline else 0.0
        self._arm(min((s for s in (left_s, at_most_s) if s > 0), default=0.0))

    def _disarm(self) -> None:
        if self._bucket is not None:
            self._bucket.discard(self)
            self._bucket = None

    # ---- the application's answer to the handshake -----------------------------------------------------------

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        connection = self._connection
        if head.status != 101 or end or connection is None:
            super().on_result(head, body, end)
            return
        connections = self._server.connections
        if connections.draining:
            self._answer(503, TEXT, _DRAINING)
            self.cancel()
            return
        try:
            answer = encode_switch(
                head.headers, self._protocol.fields, common=connections.common, request_id=self.request_id
            )
        except BadResponseError as error:
            self._server.report_bad_response(self.head, error)
            self._answer(500, TEXT, b"Internal Server Error")
            self.cancel()
            return
        self._opened = True
        self._pattern = head.route
        self._timeout_s = self._lifetime_s
        self._arm_lifetime()
        self._socket = socket = WebSocketConnection(self._protocol, self, connections)
        connection.switch(answer, socket)

    # ---- from the application --------------------------------------------------------------------------------

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        socket = self._socket
        if socket is None:  # a refusal that streams, or nobody listens any more
            if end and self._connection is None:
                self._disarm()
            super().on_chunk(chunk, end)
            return
        if end:
            self.stream = None
        position, size = 0, len(chunk)
        while position < size:
            kind, length = RECORD.unpack_from(chunk, position)
            start = position + RECORD_SIZE
            position = start + length
            if kind == CLOSE:
                self._close(*unpack_close(chunk[start:position]))
                self._swallow(size)
                return
            socket.send(kind, chunk[start:position])
        if end:
            self._close(OK, "")
        elif socket.writable:
            if self.stream is not None:
                self.stream.consumed(size)
        else:
            self._uncredited += size

    def _close(self, code: int, reason: str) -> None:
        """The end of the conversation from this side."""
        socket, self._socket = self._socket, None
        if socket is not None:
            self._done(code)
            socket.close(code, reason)
            self.on_drained()
            self._watch_end()

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        if self._socket is None:
            super()._answer(status, headers, body)
        else:
            self._close(_CODES.get(status, INTERNAL_ERROR), body.decode("utf-8", "replace"))

    # ---- from the client -------------------------------------------------------------------------------------

    def on_records(self, records: bytes) -> None:
        stream = self.stream
        if stream is not None and not self._backlog and stream.writable:
            stream.send(records)
        else:
            self._backlog.append(records)
            self._forward()

    def _forward(self) -> None:
        stream = self._send_backlog()
        if stream is not None and self._farewell and not self._backlog and stream.writable:
            farewell, self._farewell = self._farewell, b""
            stream.send(farewell, end=True)
        if self._socket is not None:
            self._socket.pause_reading(bool(self._backlog))

    def on_closed(self, code: int, reason: str, clean: bool) -> None:
        self._socket = None
        self._done(code)
        if self.stream is None:
            return
        self.on_drained()
        # The application reads this after the client's messages, and ends.
        self._farewell = pack_close(code, reason)
        self._forward()
        if self._farewell and not clean:
            self.cancel()
        else:
            self._watch_end()

    # ---- the end ---------------------------------------------------------------------------------------------

    def _watch_end(self) -> None:
        """The client is served, but the application may still run: its deadline stands."""
        if self.stream is not None:
            self._arm_lifetime(_LAST_MESSAGES_S if self._farewell else 0.0)

    def on_deadline(self) -> None:
        if not self._opened:
            super().on_deadline()
            return
        # A conversation that has lasted so long is no failure of the replica's, so it is not given up as a timeout.
        self._bucket = None
        self._close(TIMEOUT, f"Request {self.head.request_id} timed out after {self._timeout_s}s.")
        self.cancel()

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.stream = None
        super().on_user_error(head, body)
        self._disarm()

    def _begin_again(self) -> bool:
        return False  # its code has run, and who knows what the handshake was good for

    def on_failed(self, error: EaglerayError) -> None:
        super().on_failed(error)
        self._disarm()
