"""A session on a socket: reads, writes, back-pressure, who the peer is, and the end of it all.

When output leaves is said in `outlet`. Another thread may write one frame itself (`write_now`): to wake the loop for
it would be the longest step of a short call. This module knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack, cast

from eagleray.base.errors import ProtocolError, RequestTimeoutError
from eagleray.rpc.bulk import BulkReader
from eagleray.rpc.memory import SharedMemory
from eagleray.rpc.outlet import Outlet
from eagleray.wire.session import Session

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

logger = logging.getLogger("eagleray.rpc")

HANDSHAKE_TIMEOUT_S = 5.0
"""Seconds in which a peer must have proved who it is."""
_LINGER_S = 1.0
"""Seconds that a closed connection may take to send what was written before."""
_HIGH_WATER, _LOW_WATER = 512 * 1024, 128 * 1024
"""Bytes in the transport at which streams pause and go on; two chunks, so that one slow reader costs little memory."""
_SEND_BUFFER_BYTES = 1 << 20
"""As much as the window of a stream; the kernel may grant less."""


class Connection(Outlet, asyncio.Protocol):
    """Carries one session, which it is given by `attach` before the transport comes.

    `on_closed` is called once, after the session has ended its calls. `lost` is set once the socket is closed.
    `close()` is idempotent.
    """

    def __init__(self, on_closed: Callable[[], None]) -> None:
        super().__init__()
        self._on_closed = on_closed
        self.lock = threading.Lock()
        """The session's lock."""
        self._fd = -1
        self._deadline: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        self.peer = "?"
        self.handshake_required = False
        self.shared = False
        """Whether other threads may write; to be set before the transport comes."""

    def attach(self, session: Session) -> None:
        """Gives the session whose bytes this connection carries."""
        self._session = session
        session.on_pong = self._on_pong
        session.on_ready = self._on_ready
        session.wake_soon = self.wake_soon
        session.wake_among = self.wake_among

    def share(self, memory: SharedMemory) -> None:
        """Lets large values go through memory: for a Unix socket whose peer is of our user."""
        self.session.leases = memory.leases(self.session.emit_memory, self._hand_over)

    # ---- output ----------------------------------------------------------------------------------------------

    def write_now(self, frame: bytes) -> None:
        """From any thread, with the session's lock held and nothing in `out`: writes a frame.

        What the socket does not take, or everything if this connection is not `shared`, is left to the loop.
        """
        transport = self._transport
        sent = 0
        if self._fd >= 0 and transport is not None and not transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, frame)
            except OSError:
                pass  # full or lost: the transport will find out
        if sent < len(frame):
            # Before anything that the loop has emitted meanwhile.
            self.session.out.insert(0, frame[sent:])
            self._hand_over(self._flush)

    def fail_from_thread(self, reason: str) -> None:
        """From any thread: ends the connection and its calls."""
        self._hand_over(self._fail, reason)

    def _hand_over(self, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the loop has ended, and the connection with it

    def pause_writing(self) -> None:
        self.session.pause()

    def resume_writing(self) -> None:
        self.session.resume()

    # ---- input -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        if self.session.closed:
            transport.abort()
            return
        if self.shared:
            # Of our own, because the transport closes its one before it tells us.
            self._fd = os.dup(transport.get_extra_info("socket").fileno())
        if self.handshake_required:
            self._deadline = self._loop.call_later(
                HANDSHAKE_TIMEOUT_S, self._fail, "the peer sent no HELLO in time"
            )
        self._flush()

    def data_received(self, data: bytes) -> None:
        session = self._session
        assert session is not None
        held, self._holds = self._holds, True
        try:
            session.receive(data)
        except ProtocolError as error:
            self._fail(str(error))
        finally:
            self._holds = held
        if session.out and not held:
            self._flush()
        if session.decoder.rest is not None and self._transport is not None:
            self._transport.set_protocol(BulkReader(self))

    def read_small(self) -> None:
        """A large body is all here."""
        if self._transport is not None and not self.session.closed:
            self._transport.set_protocol(self)

    def take(self, into: Callable[[T], None], received: T) -> None:
        """As `data_received`, for the reader of a large body: `into` is what its bytes are given to."""
        held, self._holds = self._holds, True
        try:
            into(received)
        except ProtocolError as error:
            self._fail(str(error))
        finally:
            self._holds = held
        if self.session.out and not held:
            self._flush()

    def eof_received(self) -> bool:
        """A peer that half-closes has gone: nobody would read our answers."""
        return False

    def _on_ready(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # ---- liveness --------------------------------------------------------------------------------------------

    async def ping(self, timeout_s: float) -> None:
        """Returns once the peer's loop has answered. Raises RequestTimeoutError, or ConnectionError when it is gone."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.probe()
        except TimeoutError:
            raise RequestTimeoutError(f"{self.peer} did not answer a ping within {timeout_s:g} s") from None

    def probe(self) -> asyncio.Future[None]:
        """As `ping`, for those who do not wait: the future ends with the answer or with the connection."""
        if self.session.closed:
            raise ConnectionResetError(self.session.reason)
        token = os.urandom(8)
        answer = self._pings[token] = self._loop.create_future()
        self.session.ping(token)
        return answer

    def _on_pong(self, token: bytes) -> None:
        answer = self._pings.pop(token, None)
        if answer is not None and not answer.done():
            answer.set_result(None)

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self, reason: str = "the connection was closed by this side") -> None:
        """Ends all calls now, sends what was written before, and closes."""
        if not self._end(reason):
            return
        transport = self._transport
        if transport is not None:
            self._flush()
            transport.close()
            if not self.lost.done() and transport.get_write_buffer_size():
                self._linger = self._loop.call_later(_LINGER_S, transport.abort)

    def _fail(self, reason: str) -> None:
        if not self.session.closed:
            logger.warning("the connection with %s is closed: %s", self.peer, reason)
            self._end(reason)
            if self._transport is not None:
                self._transport.abort()

    def _end(self, reason: str) -> bool:
        if not self.session.close(reason):
            return False
        self._on_ready()
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError(reason))
        self._on_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection with {self.peer} was lost" + (f": {exc}" if exc else ""))
        if self._linger is not None:
            self._linger.cancel()
        self._transport = None
        with self.session.lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if not self.lost.done():
            self.lost.set_result(None)

    async def wait_closed(self) -> None:
        """Returns once the socket is closed."""
        await asyncio.shield(self.lost)


def widen(sock: socket.socket) -> None:
    """Lets a Unix socket hold a few chunks: with the usual 208 KiB each chunk of 256 KiB would need two wake-ups."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def is_same_user(sock: socket.socket) -> bool:
    """Whether the peer of a Unix socket runs under our user id, as the kernel says."""
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(uid == os.geteuid())
