"""The listening socket of the REST server, and its tokens. Behind it is nothing until somebody knocks.

A start pays for a bind and two small files only: the server is imported with the first connection. A controller that
takes over from one that has died finds the same tokens, and the same port if nobody else has taken it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from eagleray.admin.operations import Operations
from eagleray.admin.records import Reading
from eagleray.admin.tokens import ADMIN_FILE, URL_FILE, load_or_make_tokens, write_private

if TYPE_CHECKING:
    from eagleray.admin.exposition import Scrape
    from eagleray.admin.server import AdminServer
    from eagleray.http.listen import Listener

logger = logging.getLogger("eagleray.admin")

HOST = "127.0.0.1"
DEFAULT_PORT = 8265
"""That of Ray's dashboard, which Ray's tools ask without being told."""

AUDIT_FILE = "admin_audit.log"

_PORTS_TRIED = 100
"""From the wished one upwards; then any free one."""

_BACKLOG = 128


class Door:
    """Opened by `open`, closed by `close`; belongs to the running loop."""

    def __init__(
        self,
        operations: Operations,
        runtime_dir: str,
        logs_dir: str,
        *,
        version: str,
        scrape: Scrape,
        reading: Reading,
        hosts: Iterable[str] = (),
    ) -> None:
        self._operations = operations
        self._runtime_dir = runtime_dir
        self._logs_dir = logs_dir
        self._version = version
        self._scrape = scrape
        self._reading = reading
        self._hosts = tuple(hosts)
        self._socket: socket.socket | None = None
        self._listener: Listener | None = None
        self._server: AdminServer | None = None
        self.url = ""
        """Where it listens; empty while it does not."""
        self.error = ""
        """Why it does not listen."""

    @property
    def token_path(self) -> str:
        """The file with the admin token; empty while there is no server."""
        return os.path.join(self._runtime_dir, ADMIN_FILE) if self.url else ""

    def open(self, port: int) -> None:
        """Listens on `port`, or the next free one (0: any). When that cannot be, `error` says why: nothing else fails.

        Negative: there is no server.
        """
        if port < 0:
            return
        url_path = os.path.join(self._runtime_dir, URL_FILE)
        try:
            self._tokens = load_or_make_tokens(self._runtime_dir)
            self._socket = _bind(_former_port(url_path) or port)
            self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
            write_private(url_path, self.url.encode() + b"\n")
        except OSError as error:
            self.url = ""
            self.error = f"The REST server cannot be started: {error}"
            logger.error("%s", self.error)
            self._close_socket()
            return
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_knock)

    def _on_knock(self) -> None:
        """The first connection: everything that serves it is made now."""
        from eagleray.admin.actions import Actions
        from eagleray.admin.audit import Audit
        from eagleray.admin.exposition import Exposition
        from eagleray.admin.gate import Gate
        from eagleray.admin.server import AdminServer
        from eagleray.http.listen import Listener

        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        session = os.path.basename(os.path.dirname(self._logs_dir.rstrip("/")))
        self._server = server = AdminServer(
            Gate(self._tokens, self._hosts),
            Actions(self._operations, self._version, session, Exposition(self._scrape), self._reading),
            Audit(os.path.join(self._logs_dir, AUDIT_FILE)),
        )
        self._listener = listener = Listener(self._socket, server.connection)
        server.connections.on_discard = listener.on_descriptor_freed
        listener.start()

    async def close(self) -> None:
        """Answers what is under way and closes the socket. Idempotent."""
        if self._socket is not None and self._listener is None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        if self._listener is not None:
            await self._listener.close()
        self._close_socket()
        if self._server is not None:
            await self._server.close()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _former_port(url_path: str) -> int | None:
    """The port of a former controller of this instance."""
    try:
        with open(url_path, encoding="ascii") as file:
            return int(file.read().rpartition(":")[2])
    except (OSError, ValueError):
        return None


def _bind(port: int) -> socket.socket:
    """Raises OSError. A port is free only once it listens: two sockets may be bound to it while none does."""
    last = min(port + _PORTS_TRIED, 65536)
    for candidate in [*range(port, last), 0] if port else [0]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # against TIME_WAIT
            sock.bind((HOST, candidate))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            return sock
        except OSError:
            sock.close()
            if candidate == 0:
                raise
    raise AssertionError("port 0 comes last")
