"""One server connection of HTTP/1.1: reader and writer joined, one request after the other.

Requests of a connection run in turn, as RFC 9110 asks for unsafe methods; what a client has pipelined waits parsed (a
few) or unparsed, with reading paused. A complete small request costs the parser's callbacks and one
`RequestSink.begin`; no task, future or timer belongs to a request or a connection.

It must not know of routes, replicas or the wire.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from eagleray.http.connections import SWEEP_S, Connections
from eagleray.http.protocol import BODY, HEAD, IDLE, RequestReader
from eagleray.http.request import HttpRefused, Request
from eagleray.http.response import CONTINUE
from eagleray.http.writer import ResponseWriter

INLINE_BODY_BYTES = 256 * 1024
"""A body up to this size is dispatched whole; the same as a chunk of the wire."""


class RequestHandler(Protocol):
    """One request in the application's hands; the connection calls it until the response has ended."""

    def on_body(self, chunk: bytes) -> None:
        """More of a body that was not complete at `begin`."""

    def on_body_end(self) -> None:
        """The body is complete now."""

    def on_body_refused(self, error: HttpRefused) -> None:
        """The body will never be complete: answer so, or cut off the answer that has begun."""

    def on_disconnect(self) -> None:
        """The client has gone; nothing that is written arrives any more."""

    def on_drained(self) -> None:
        """The client has taken what was written; `writable` is true again."""


class Successor(Protocol):
    """The protocol that a connection speaks after HTTP."""

    def begin(self, transport: asyncio.Transport, early: bytes, *, writable: bool) -> None:
        """Takes the transport over; `early` was received already. `writable`: the transport's buffer is not full."""


class RequestSink(Protocol):
    """Where requests go."""

    def begin(self, connection: HttpConnection, request: Request) -> RequestHandler | None:
        """Takes a request; the response may have been written before this returns."""

    def refused(self, status: int) -> None:
        """A request was refused before it became one."""


class HttpConnection(ResponseWriter, asyncio.Protocol):
    """One client connection."""

    def __init__(self, sink: RequestSink, connections: Connections) -> None:
        super().__init__(connections)
        self._sink = sink
        self._reader = RequestReader(self, connections.limits)
        self._handler: RequestHandler | None = None
        self._advancing = False
        self._reading_paused = False
        self._upload_paused = False
        # what the last sweep saw
        self._served = 0
        self._still_s = 0.0
        self._window_start = 0

    # ---- transport -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(cast(asyncio.Transport, transport))
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.detach()
        self._reader.forget()
        self.connections.discard(self)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_disconnect()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._handler is not None:
            self._handler.on_drained()
        elif self.active is None:
            self._advance()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        reader = self._reader
        reader.feed(data)
        if reader.ready or reader.rest:
            if self.active is None:
                self._advance()
            else:
                self._update_reading()

    # ---- one request after the other -------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begins what waits, until a request is under way that does not answer at once.

        Nothing begins while the client does not read: answers to what it has pipelined would pile up here.
        """
        if self._advancing:
            return
        self._advancing = True
        reader = self._reader
        try:
            while self.active is None and self.writable and not self.closing:
                if reader.ready:
                    entry = reader.ready.popleft()
                    if isinstance(entry, HttpRefused):
                        self._sink.refused(entry.status)
                        self.respond_refusal(entry.status, entry.text)
                    else:
                        self._begin(entry)
                elif reader.rest:
                    reader.feed_rest()
                else:
                    if reader.stage == BODY:
                        self.on_partial_body()
                    break
        finally:
            self._advancing = False
        if self._reading_paused or reader.ready or reader.rest:
            self._update_reading()

    def _begin(self, request: Request) -> None:
        self.active = request
        handler = self._sink.begin(self, request)
        if self.active is request:
            self._handler = handler

    def finished(self) -> None:
        self._handler = None
        self._upload_paused = False
        reader = self._reader
        if reader.ready or reader.rest or reader.stage == BODY or self._reading_paused:
            self._advance()

    # ---- bodies that come in pieces (ReaderOwner) ------------------------------------------------------------

    def on_partial_body(self, *, late: bool = False) -> None:
        reader = self._reader
        request = reader.next
        if request is None or self.closing:
            return
        if reader.upload is request:
            self._pass_on_body(request)
        elif self.active is None and self.writable and not reader.ready:
            if reader.wants_continue and not reader.received:
                reader.wants_continue = False
                self.transport_write(CONTINUE)
            chunked = b"transfer-encoding" in request.known
            if late or reader.received + reader.left > INLINE_BODY_BYTES or (chunked and reader.parts):
                self._begin_upload(request)
        elif reader.received > INLINE_BODY_BYTES:
            self._update_reading()

    def _begin_upload(self, request: Request) -> None:
        """Dispatches a request whose body is still coming."""
        reader = self._reader
        body = reader.take_parts()
        request.body = body[:INLINE_BODY_BYTES]
        request.complete = False
        reader.upload = request
        self._begin(request)
        if len(body) > INLINE_BODY_BYTES and self.active is request and self._handler is not None:
            self._handler.on_body(body[INLINE_BODY_BYTES:])

    def _pass_on_body(self, request: Request) -> None:
        chunk = self._reader.take_parts()
        if chunk and self.active is request and self._handler is not None:
            self._handler.on_body(chunk)

    def on_upload_end(self, request: Request) -> None:
        self._pass_on_body(request)
        if self.active is request and self._handler is not None:
            self._handler.on_body_end()

    def on_upload_refused(self, request: Request, error: HttpRefused) -> None:
        if self.active is request and self._handler is not None:
            self._handler.on_body_refused(error)

    def pause_upload(self, paused: bool) -> None:
        """Back-pressure of the one who takes the request's body."""
        if paused != self._upload_paused:
            self._upload_paused = paused
            self._update_reading()

    def _update_reading(self) -> None:
        transport, reader = self.transport, self._reader
        if transport is None or self.closing:
            return
        # A next request may arrive whole behind the present one; of more than that, the client keeps the rest.
        behind = reader.upload is None and (self.active is not None or not self.writable)
        pause = self._upload_paused or (
            behind and (bool(reader.ready or reader.rest) or reader.received > INLINE_BODY_BYTES)
        )
        if pause and not self._reading_paused:
            self._reading_paused = True
            transport.pause_reading()
        elif self._reading_paused and not pause:
            self.ensure_reading()

    def ensure_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()

    # ---- the end of HTTP -------------------------------------------------------------------------------------

    def switch(self, head: bytes, successor: Successor) -> None:
        """Answers the present request, an `upgrade`, by `head`, and leaves transport and client to `successor`."""
        transport = self.transport
        if transport is None:
            return
        self.ensure_reading()
        early = self._reader.rest
        self._reader.forget()
        self._handler = None
        self.detach()
        transport.write(head)
        successor.begin(transport, early, writable=self.writable)
        self.connections.discard(self)

    # ---- once a second ---------------------------------------------------------------------------------------

    def check(self) -> None:
        if self.check_writing(SWEEP_S):
            return
        reader, limits = self._reader, self.connections.limits
        busy = not self.writable or (self.active is not None and reader.stage != BODY)
        if busy or reader.served != self._served:
            self._served = reader.served
            self._still_s = 0.0
            self._window_start = 0
        if reader.stage == BODY:
            self._check_body()
        elif self.active is None:
            self._still_s += SWEEP_S
            is_head = reader.stage == HEAD
            if is_head and self._still_s > limits.header_timeout_s:
                self._refuse(HttpRefused(408, "Request header was not received in time."))
            elif self._still_s > (
                limits.keep_alive_timeout_s if reader.served else limits.header_timeout_s
            ) or (self.connections.ending and not is_head):
                self.end()

    def _check_body(self) -> None:
        reader, limits = self._reader, self.connections.limits
        if self._reading_paused or self.started or (self.active is not None and reader.upload is None):
            return
        if reader.upload is None:
            self.on_partial_body(late=True)
        self._still_s += SWEEP_S
        if self._still_s > limits.body_grace_s:
            if reader.received - self._window_start < limits.min_body_rate * self._still_s:
                self._refuse(HttpRefused(408, "Request body was not received in time."))
            self._still_s = 0.0
            self._window_start = reader.received

    def _refuse(self, error: HttpRefused) -> None:
        self._reader.refuse(error)
        if self._reader.ready and self.active is None:
            self._advance()

    def close_when_idle(self) -> None:
        reader = self._reader
        is_new = not reader.served and not self._still_s
        if self.active is None and reader.stage == IDLE and not reader.ready and not is_new:
            self.end()
