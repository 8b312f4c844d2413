"""The answering half of a server connection: responses whole or in pieces, and how a connection ends.

The response's framing is chosen here, never by the application. A connection that has refused input lingers: it sends
its answer, closes its own direction, and drops what still comes for a moment, because a close with unread input
makes the kernel send a reset that may overtake the answer (RFC 9112, 9.6).

Of a response in pieces the first one leaves at once, and those that come before the loop's next turn leave together:
a system call for each would cost more than all else that is done for it.
"""

from __future__ import annotations

import asyncio

from eagleray.http.connections import Connections
from eagleray.http.request import Request
from eagleray.http.response import TEXT, encode_head
from eagleray.wire.messages import Headers

_JOIN_BYTES = 64 * 1024
"""Up to here head and body are joined into one buffer: cheaper than a vectored write."""

_HIGH_WATER_BYTES = 512 * 1024
"""Unsent bytes at which a response pauses: two chunks of the wire."""

_PIECES = 3
"""Of one chunk: its size, itself, and a line's end."""

_LINGER_S = 2.0
"""How long input is dropped after the last answer."""


class ResponseWriter:
    """Base of `HttpConnection`; `active` is the request that is being answered."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.transport: asyncio.Transport | None = None
        self.active: Request | None = None
        self.writable = True
        self.closing = False
        self.started = False
        self.status = 0
        self.scheme = "http"
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int] | None = None
        self._pieces: list[bytes] = []
        self._gathering = False
        self._begun = False
        self._flows = False
        self._chunked = False
        self._bodiless = False
        self._left_to_send = -1
        self._close_after = False
        self._linger_s = 0.0
        self._stalled_s = 0.0
        self._unsent = 0

    def attach(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self.transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"

    def detach(self) -> None:
        """The connection has gone."""
        self.transport = None
        self.closing = True
        self.active = None

    def transport_write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    # ---- responses -------------------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes, request_id: bytes = b"") -> None:
        """A whole response. Raises BadResponseError, having written nothing, when the head cannot be sent."""
        request, transport = self.active, self.transport
        if request is None or transport is None:
            return
        head, _, _, close = encode_head(
            status,
            headers,
            common=self.connections.common,
            request_id=request_id,
            method=request.method,
            http11=request.http11,
            keep_alive=request.keep_alive and request.complete and not self.connections.draining,
            body_length=len(body),
        )
        if not body or request.method == "HEAD" or status == 204 or status == 304:
            transport.write(head)
        elif len(body) <= _JOIN_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._close_after = close
        self._finish()

    def start(self, status: int, headers: Headers, request_id: bytes = b"") -> None:
        """The head of a response whose body follows by `send`. Raises BadResponseError as `respond` does."""
        request = self.active
        if request is None or self.transport is None:
            return
        head, self._left_to_send, self._chunked, self._close_after = encode_head(
            status,
            headers,
            common=self.connections.common,
            request_id=request_id,
            method=request.method,
            http11=request.http11,
            keep_alive=request.keep_alive and not self.connections.draining,
            body_length=-1,
        )
        self._bodiless = request.method == "HEAD" or status == 204 or status == 304
        self.started = True
        self._begun = self._flows = False
        self.status = status
        # With it the first of the body, if that is here already.
        self._pieces.append(head)
        self._gather()

    def send(self, chunk: bytes, end: bool) -> None:
        """A piece of the body; a body that contradicts its announced length is cut off."""
        transport = self.transport
        if transport is None or not self.started:
            return
        size = len(chunk)
        if self._bodiless:
            pass
        elif self._chunked:
            if size:
                self._put(b"%x\r\n" % size, chunk, b"\r\n0\r\n\r\n" if end else b"\r\n")
            elif end:
                self._put(b"0\r\n\r\n")
        else:
            if self._left_to_send >= 0:
                self._left_to_send -= size
                if self._left_to_send < 0 or (end and self._left_to_send):
                    self.cut()
                    return
            if size:
                self._put(chunk)
        if end:
            self._flush_pieces()
            self._finish()

    def _put(self, *pieces: bytes) -> None:
        """What a turn of the loop puts leaves at its end; its first at once, unless the turn before had several."""
        self._pieces += pieces
        if not self._begun or not (self._gathering or self._flows):
            self._begun = True
            self._flush_pieces()
        self._gather()

    def _gather(self) -> None:
        if not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self._flows = len(self._pieces) > _PIECES
        if self._pieces:
            self._flush_pieces()

    def _flush_pieces(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and self.transport is not None:
            self.transport.writelines(pieces)

    def cut(self) -> None:
        """Ends a response that has begun and cannot be completed, so that the client can tell."""
        # Only a reset tells a client whose body ends with the connection that something is missing.
        self.abort()

    def respond_refusal(self, status: int, text: str) -> None:
        """An answer to what is not a request; the connection ends with it."""
        body = text.encode()
        head, *_ = encode_head(
            status,
            TEXT,
            common=self.connections.common,
            request_id=b"",
            method="GET",
            http11=True,
            keep_alive=False,
            body_length=len(body),
        )
        self.transport_write(head + body)
        self._linger()

    def _finish(self) -> None:
        request, self.active = self.active, None
        self.started = False
        if self._close_after or (request is not None and not request.complete):
            if request is not None and request.complete:
                self.end()
            else:
                self._linger()
        self.finished()

    def finished(self) -> None:
        """The response has been handed to the transport; the next request may begin."""

    def ensure_reading(self) -> None:
        """Input flows, whatever had paused it."""

    # ---- the end ---------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Closes after what has been written."""
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Closes at once; what has not been sent is lost."""
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def _linger(self) -> None:
        self.closing = True
        transport = self.transport
        if transport is None:
            return
        if not transport.can_write_eof():
            transport.close()
            return
        self._linger_s = _LINGER_S
        transport.write_eof()
        self.ensure_reading()

    def check_writing(self, passed_s: float) -> bool:
        """Judges the peer's reading; True when the connection is at its end anyhow."""
        transport = self.transport
        if transport is None:
            return True
        unsent = transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self._stalled_s += passed_s
            if self._stalled_s > self.connections.limits.response_stall_s:
                self.abort()
                return True
        else:
            self._stalled_s = 0.0
        self._unsent = unsent
        if self.closing and self._linger_s and not unsent:
            self._linger_s -= passed_s
            if self._linger_s <= 0:
                self.abort()
        return self.closing


def _address(name: object) -> tuple[str, int] | None:
    """(host, port) of a TCP socket's name; None for a Unix socket's."""
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return None
