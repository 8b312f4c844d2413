"""Node's TCP listeners, which outlive the proxies that serve on them."""

from __future__ import annotations

import errno
import socket

from eagleray.engine.base import EngineError
from eagleray.rpc.tcp import bind_problem, bind_tcp
from eagleray.rpc.unix import BACKLOG


def listen_tcp(host: str, port: int) -> socket.socket:
    """A non-blocking TCP listener; raises EngineError `port_in_use` or `internal`."""
    if not 0 <= port <= 65535:  # getaddrinfo would silently take it modulo 65536
        raise EngineError("internal", f"Failed to bind to address '{host}:{port}'. A port is at most 65535.")
    try:
        sock = bind_tcp(host, port)
    except OSError as error:
        raise _bind_error(host, port, error) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _bind_error(host, port, error) from error
    return sock


def _bind_error(host: str, port: int, error: OSError) -> EngineError:
    code = "port_in_use" if error.errno == errno.EADDRINUSE else "internal"
    return EngineError(code, bind_problem(host, port, error))


class TcpListeners:
    """Node's TCP listeners by what was asked for: a new proxy inherits the one that its predecessor had.

    They are closed before the last proxy stops to accept: clients that come later are refused at once, instead of
    waiting for nobody.
    """

    def __init__(self) -> None:
        self._closed = False
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    def get(self, host: str, port: int) -> socket.socket:
        """Raises EngineError when it cannot be bound, and `closed` after the end."""
        if self._closed:
            raise EngineError(
                "closed", f"Nobody listens on '{host}:{port}' any more: the instance is ending."
            )
        sock = self._sockets.get((host, port))
        if sock is None:
            sock = self._sockets[host, port] = listen_tcp(host, port)
        return sock

    def close(self) -> None:
        """Lets go of all, for good. Idempotent."""
        self._closed = True
        while self._sockets:
            self._sockets.popitem()[1].close()

    def sockets(self) -> list[socket.socket]:
        return list(self._sockets.values())
