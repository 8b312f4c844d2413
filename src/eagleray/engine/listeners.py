"""Node's TCP listeners, which outlive the proxies that serve on them."""

from __future__ import annotations

import errno
import os
import socket

from eagleray.engine.base import EngineError
from eagleray.rpc.unix import BACKLOG


def listen_tcp(host: str, port: int) -> socket.socket:
    """A non-blocking TCP listener; raises EngineError `port_in_use` or `internal`."""
    if not 0 <= port <= 65535:  # getaddrinfo would silently take it modulo 65536
        raise EngineError("internal", f"Failed to bind to address '{host}:{port}'. A port is at most 65535.")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise EngineError(
            "internal",
            f"Failed to bind to address '{host}:{port}'. '{host}' is not an address of this machine.",
        ) from error
    sock = socket.socket(family, kind, proto)
    try:
        # SO_REUSEADDR against TIME_WAIT; never SO_REUSEPORT, under which a second server would share the port unseen.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _bind_error(host, port, error) from error
    return sock


def _bind_error(host: str, port: int, error: OSError) -> EngineError:
    start = f"Failed to bind to address '{host}:{port}'."
    if error.errno == errno.EADDRINUSE:
        holder = _holder_of(port)
        by = f" by {holder}" if holder else ""
        return EngineError("port_in_use", f"{start} The port is in use{by}: stop it, or choose another port.")
    if error.errno == errno.EACCES:
        return EngineError("internal", f"{start} Ports below 1024 need privileges: choose a higher one.")
    if error.errno == errno.EADDRNOTAVAIL:
        return EngineError("internal", f"{start} '{host}' is not an address of this machine.")
    return EngineError("internal", f"{start} {error.strerror or error}.")


def _holder_of(port: int) -> str:
    """`process 123 (name)` that listens on `port`, or nothing when /proc does not tell."""
    inodes = _listening_inodes(port)
    for pid in filter(str.isdigit, os.listdir("/proc")) if inodes else ():
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if any(os.readlink(entry.path) in inodes for entry in entries):
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"process {pid} ({file.read().strip()})"
        except OSError:  # somebody else's process, or one that has just ended
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        # columns of proc(5): local address is 1, state 3 (0A: listening), inode 9
        inodes |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    return inodes


class TcpListeners:
    """Node's TCP listeners by what was asked for: a new proxy inherits the one that its predecessor had."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    def get(self, host: str, port: int) -> socket.socket:
        """Raises EngineError when it cannot be bound."""
        sock = self._sockets.get((host, port))
        if sock is None:
            sock = self._sockets[host, port] = listen_tcp(host, port)
        return sock

    def sockets(self) -> list[socket.socket]:
        return list(self._sockets.values())
