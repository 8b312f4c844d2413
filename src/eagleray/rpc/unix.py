"""Unix sockets of this instance: bound before anybody is told of them, so that nobody ever retries a connect.

A connect succeeds, waits in the backlog, or its refusal means that the process has died. Node binds the sockets of its
children before it forks them; only that for calls is bound by the replica itself, which is not listed before.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TypeVar

P = TypeVar("P", bound=asyncio.BaseProtocol)

BACKLOG = 2048
"""Connects that may wait while a child is replaced or busy; the kernel caps it at net.core.somaxconn."""


def listen_unix(path: str) -> socket.socket:
    """A non-blocking Unix listener of mode 0600 at `path`, in place of a stale one. Raises OSError that names it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unlink_socket(path)
        # The mode must be right from the start: between bind and chmod another user could connect.
        previous = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(previous)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"Failed to listen: {error.strerror or error}", path) from error
    return sock


async def connect_over(sock: socket.socket, factory: Callable[[], P]) -> P:
    """A protocol on `sock`, which is connected and belongs to the transport from here on, also when this raises.

    When the peer is gone already, uvloop closes the descriptor without telling the socket object. That would close it
    again when it is collected: by then the number is somebody else's.
    """
    loop = asyncio.get_running_loop()
    closes_by_itself = not isinstance(loop, asyncio.BaseEventLoop)
    try:
        transport, protocol = await loop.create_unix_connection(factory, sock=sock)
    except BaseException:
        if closes_by_itself:
            sock.detach()
        else:
            sock.close()
        raise
    if closes_by_itself and transport.is_closing():
        sock.detach()
    return protocol


def calls_path(path: str) -> str:
    """Where a replica takes calls whose control socket is at `path`."""
    return f"{path.removesuffix('.sock')}.calls.sock"


def unlink_socket(path: str) -> None:
    """Removes a socket's path if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def directory_of(address: str) -> str:
    """The folder of a `unix:` address's socket, or "" for other addresses."""
    kind, _, path = address.partition(":")
    return path.rpartition("/")[0] if kind == "unix" else ""
