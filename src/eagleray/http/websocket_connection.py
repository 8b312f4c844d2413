"""A client connection after its handshake: the WebSocket on its transport, with back-pressure and deadlines.

Messages go to the handler as they come, packed for the wire; when it cannot take more, nothing more is read, so a
client stops at its own `send`. Waits are judged by the sweep of `connections`, as those of HTTP are: no timer, task or
future belongs to a connection. Whichever side ends it, the handler hears so once, or has said so itself.

It must not know of routes, replicas or the wire.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from eagleray.http.connections import SWEEP_S, Connections
from eagleray.http.websocket import CLOSE_FRAME, WebSocketProtocol
from eagleray.wire.websocket import ABNORMAL, GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART

_CLOSE_S = 10.0
"""Seconds for the client to answer a close frame."""

_LINGER_S = 2.0
"""How long input is dropped after a failure: a close with unread input would reset the connection, and with it the
close frame that says why."""

_JOIN_BYTES = 16 * 1024
"""Up to here header and payload are joined into one buffer."""


_BATCH_BYTES = 64 * 1024
"""Up to here messages that came together go on together; a larger one would be copied for nothing."""


class WebSocketHandler(Protocol):
    """Who talks to the client."""

    def on_records(self, records: bytes) -> None:
        """Messages from the client; `pause_reading` while they cannot be taken."""

    def on_closed(self, code: int, reason: str, clean: bool) -> None:
        """The client has closed (`clean`), broken the protocol or gone: the last call."""

    def on_drained(self) -> None:
        """The client has taken what was written; `writable` is true again."""


class WebSocketConnection(asyncio.Protocol):
    """Given to `HttpConnection.switch`. `send` and `close` do nothing once the end has come."""

    def __init__(
        self, protocol: WebSocketProtocol, handler: WebSocketHandler, connections: Connections
    ) -> None:
        self.writable = True
        self._protocol = protocol
        self._handler: WebSocketHandler | None = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._held = False
        self._next_turn: asyncio.Handle | None = None
        self._paused = False
        self._late_pong = b""
        self._ending = False
        self._left_s = 0.0
        # what the last sweep saw
        self._heard = True
        self._active = True
        self._silent_s = 0.0
        self._idle_s = 0.0
        self._unsent = 0
        self._stalled_s = 0.0

    # ---- transport -------------------------------------------------------------------------------------------

    def begin(self, transport: asyncio.Transport, early: bytes, *, writable: bool) -> None:
        self._transport = transport
        self.writable = writable
        self._connections.add(self)
        transport.set_protocol(self)
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._rest = b""
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._connections.discard(self)
        self._tell(ABNORMAL, "", clean=False)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._late_pong:
            pong, self._late_pong = self._late_pong, b""
            self._write(pong)
        if self._handler is not None:
            self._handler.on_drained()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._rest or self._held:
            self._rest += data
        elif not self._ending:
            self._feed(data)
        self._update_reading()

    # ---- in --------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Parses a turn's worth, and has the rest wait for the next one, or for the handler."""
        protocol = self._protocol
        rest = protocol.feed(data)
        if protocol.records:
            records, protocol.records = protocol.records, []
            handler = self._handler
            if handler is not None:
                self._active = True
                for batch in records if len(records) == 1 else _join(records):
                    handler.on_records(batch)
        self._send_control()
        if self._ending:
            return
        if protocol.ended is not None:
            self._end(linger=not protocol.clean)
            self._tell(*protocol.ended, clean=protocol.clean)
        elif rest:
            self._rest = rest
            if not self._held and self._next_turn is None:
                self._next_turn = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        if self._rest and not self._held:
            data, self._rest = self._rest, b""
            self._feed(data)
            self._update_reading()

    def pause_reading(self, paused: bool) -> None:
        """Back-pressure of the handler."""
        if paused == self._held:
            return
        self._held = paused
        if not paused and self._rest and self._next_turn is None:
            # Not at once: the handler is in the middle of something.
            self._next_turn = asyncio.get_running_loop().call_soon(self._go_on)
        self._update_reading()

    def _update_reading(self) -> None:
        pause = self._held or bool(self._rest)
        transport = self._transport
        if pause != self._paused and transport is not None and not transport.is_closing():
            self._paused = pause
            if pause:
                transport.pause_reading()
            else:
                transport.resume_reading()

    # ---- out -------------------------------------------------------------------------------------------------

    def send(self, kind: int, payload: bytes) -> None:
        """Sends a message, TEXT or BINARY."""
        transport = self._transport
        if transport is None or not self._protocol.is_open:
            return
        self._active = True
        header, data = self._protocol.encode(kind, payload)
        if len(data) <= _JOIN_BYTES:
            transport.write(header + data)
        else:
            transport.writelines((header, data))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _send_control(self) -> None:
        """Sends pongs and close frames. To a client that does not read only the last pong goes (RFC 6455, 5.5.3)."""
        output = self._protocol.take_output()
        if not output:
            return
        if not self.writable:
            self._late_pong = output[-1] if self._protocol.is_open else b""
            output = [frame for frame in output if frame[0] == CLOSE_FRAME]
        self._write(b"".join(output))

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """Ends the conversation from our side; the handler is not called again."""
        self._handler = None
        if self._transport is None or self._ending or not self._protocol.is_open:
            return
        self._left_s = _CLOSE_S
        self._protocol.close(code, reason)
        self._send_control()
        self.pause_reading(False)

    def _leave(self, code: int, reason: str) -> None:
        """As `close`, when it was not the handler who wanted it."""
        handler = self._handler
        self.close(code, reason)
        if handler is not None:
            handler.on_closed(code, reason, False)

    def _fail(self, code: int, reason: str) -> None:
        """Ends a connection whose client does not keep to the rules or to the times."""
        self._protocol.fail(code, reason)
        self._send_control()
        self._end(linger=True)
        self._tell(code, reason, clean=False)

    def _tell(self, code: int, reason: str, *, clean: bool) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_closed(code, reason, clean)

    def _end(self, *, linger: bool) -> None:
        """Closes the transport after what was written; `linger`: after the client has stopped sending, or soon."""
        self._ending = True
        self._rest = b""
        transport = self._transport
        if transport is None:
            return
        if linger and transport.can_write_eof():
            self._left_s = _LINGER_S
            transport.write_eof()
            self._held = False
            self._update_reading()
        else:
            transport.close()

    # ---- once a second (Connection) --------------------------------------------------------------------------

    def check(self) -> None:
        transport, limits = self._transport, self._connections.limits
        if transport is None or self._stalls(transport):
            return
        if self._ending or not self._protocol.is_open:
            if self._left_s > 0:
                self._left_s -= SWEEP_S
                if self._left_s <= 0:
                    self.abort()
            return
        if self._heard or self._paused:
            self._heard = False
            self._silent_s = 0.0
        elif limits.websocket_ping_interval_s:
            before, self._silent_s = self._silent_s, self._silent_s + SWEEP_S
            if before < limits.websocket_ping_interval_s <= self._silent_s:
                self._protocol.ping()
                self._send_control()
            elif self._silent_s >= limits.websocket_ping_interval_s + limits.websocket_ping_timeout_s:
                self._fail(INTERNAL_ERROR, "keep-alive ping timed out")
                return
        self._idle_s = 0.0 if self._active else self._idle_s + SWEEP_S
        self._active = False
        if limits.websocket_idle_timeout_s and self._idle_s >= limits.websocket_idle_timeout_s:
            self._leave(GOING_AWAY, "idle")

    def _stalls(self, transport: asyncio.Transport) -> bool:
        """Cuts off a client that has taken nothing of what was written for too long."""
        unsent = transport.get_write_buffer_size()
        self._stalled_s = self._stalled_s + SWEEP_S if unsent and unsent == self._unsent else 0.0
        self._unsent = unsent
        if self._stalled_s > self._connections.limits.response_stall_s:
            self.abort()
            return True
        return False

    def close_when_idle(self) -> None:
        """The proxy drains: a conversation has no end to wait for, so the client is told to come again."""
        self._leave(SERVICE_RESTART, "the server restarts")

    def abort(self) -> None:
        """Closes at once; what has not been sent is lost."""
        if self._transport is not None:
            self._transport.abort()


def _join(records: list[bytes]) -> list[bytes]:
    """The same records in as few pieces as `_BATCH_BYTES` allows."""
    batches: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for record in records:
        size += len(record)
        if size > _BATCH_BYTES and batch:
            batches.append(b"".join(batch))
            batch, size = [], len(record)
        batch.append(record)
    batches.append(b"".join(batch))
    return batches
