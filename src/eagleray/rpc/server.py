"""The called side: accepts connections on a listening socket and hands each new call to one callback.

Over a Unix socket only processes of our own user are served; over TCP only peers that prove the secret, before any
frame of theirs is looked at. The callback must not block; long work belongs to tasks or threads of its owner.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from eagleray.base.errors import ConfigError
from eagleray.rpc.connection import Connection, is_same_user, widen
from eagleray.rpc.memory import SharedMemory
from eagleray.wire.handshake import NONCE_SIZE, Handshake
from eagleray.wire.server_session import ServerSession
from eagleray.wire.streams import Incoming

__all__ = ["Incoming", "Server", "ServerConnection"]

logger = logging.getLogger("eagleray.rpc")

_BACKLOG = 4096
"""Connections that may wait in the kernel; Linux cuts it to net.core.somaxconn, which is 4096 by default."""


class ServerConnection(Connection):
    """One accepted connection. Handlers meet its session as `Incoming.connection`."""

    def __init__(self, server: Server, on_call: Callable[[Incoming], None], secret: bytes | None) -> None:
        super().__init__(_nothing)
        self._server = server
        self._trusted_socket = secret is None
        nonce = os.urandom(NONCE_SIZE) if secret is not None else b""
        handshake = Handshake(server=True, secret=secret, nonce=nonce)
        self._calls = ServerSession(self.wake, handshake, on_call, self.lock)
        self.attach(self._calls)
        self.handshake_required = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is None:
            self.peer = "a client in this process"
        elif self._trusted_socket:
            self.peer = "a client on our Unix socket"
            widen(sock)
            if not is_same_user(sock):
                logger.warning("a process of another user has connected; it is turned away")
                self._calls.close("the peer belongs to another user")
            elif self._server.memory is not None:
                self.share(self._server.memory)
        else:
            self.peer = "tcp:{}:{}".format(*transport.get_extra_info("peername"))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._server.closed:
            self._calls.close("the server is closed")
        self._server.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.connections.discard(self)

    def room(self) -> None:
        """Tells the peer that a slot is free again."""
        self._calls.room()

    def limit(self, calls: int) -> None:
        """Tells the peer how many calls run here at once."""
        if self._calls.ready:
            self._calls.limit(calls)

    def goaway(self) -> None:
        """Tells the peer to send no more calls here."""
        if self._calls.ready:
            self._calls.goaway()

    def report(self, report: bytes) -> None:
        """Tells the peer what the server says of itself."""
        if self._calls.ready:
            self._calls.report(report)

    def _on_ready(self) -> None:
        super()._on_ready()
        if self._server.told_limit is not None:
            self.limit(self._server.told_limit)
        if self._server.last_report and not self._calls.closed:
            self._calls.report(self._server.last_report)
        if self._server.leaving and not self._calls.closed:
            self._calls.goaway()


def _nothing() -> None:
    """A server's connection has nobody to tell of its end but its calls."""


class Server:
    """Serves calls on one listening socket. `on_call` must answer each `Incoming` exactly once.

    `secret` is needed for TCP and ignored for Unix sockets.
    """

    def __init__(self, on_call: Callable[[Incoming], None], *, secret: bytes | None = None) -> None:
        self._on_call = on_call
        self._secret = secret
        self._listener: asyncio.AbstractServer | None = None
        self.connections: set[ServerConnection] = set()
        self.memory: SharedMemory | None = None
        """What large answers may go through; to be set before `start`, and closed by whoever has made it."""
        self.leaving = False
        self.last_report = b""
        self.closed = False
        self.told_limit: int | None = None

    async def start(self, sock: socket.socket) -> None:
        """Begins to accept on `sock`, which is listening already and is closed by `close()`; a path is not unlinked."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            self._listener = await loop.create_unix_server(
                lambda: ServerConnection(self, self._on_call, None), sock=sock, backlog=_BACKLOG, **options
            )
        elif self._secret:
            secret = self._secret
            self._listener = await loop.create_server(
                lambda: ServerConnection(self, self._on_call, secret), sock=sock, backlog=_BACKLOG
            )
        else:
            raise ConfigError("a TCP listener needs a secret: without it anybody could run code here")

    def goaway(self) -> None:
        """Tells all peers, and those that still come, to send no more calls here."""
        self.leaving = True
        for connection in tuple(self.connections):
            connection.goaway()

    def limit(self, calls: int) -> None:
        """Tells all peers, and those that still come, how many calls run here at once."""
        self.told_limit = calls
        for connection in tuple(self.connections):
            connection.limit(calls)

    def report(self, report: bytes) -> None:
        """Tells all peers, and those that still come, what this server says of itself."""
        self.last_report = report
        for connection in tuple(self.connections):
            connection.report(report)

    def hold(self) -> None:
        """Many answers will be given in this turn of the loop: those to one peer leave together."""
        for connection in self.connections:
            connection.hold()

    async def close(self) -> None:
        """Stops accepting, ends all connections (what was answered is still sent) and waits for them. Idempotent."""
        self.closed = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        connections = tuple(self.connections)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        if listener is not None:
            await listener.wait_closed()
