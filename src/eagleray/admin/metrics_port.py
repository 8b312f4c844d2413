"""A listener that serves `/metrics` and nothing else, without a token, for a Prometheus that is told no secrets.

On loopback; requests that another page's script has sent, or that come under another name, are refused like at the
REST server. It shares the text with that, and the bounds on how often it is made.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable

from eagleray.admin.crowd import Crowd
from eagleray.admin.exposition import Exposition
from eagleray.admin.gate import Refusal, check_place
from eagleray.admin.tokens import write_private
from eagleray.base.tasks import Tasks
from eagleray.http.connection import HttpConnection, RequestHandler
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.http.listen import Listener
from eagleray.http.request import HttpRefused, Request
from eagleray.http.response import TEXT

logger = logging.getLogger("eagleray.admin")

HOST = "127.0.0.1"
URL_FILE = "metrics.url"
"""In the runtime directory."""

MAX_CONNECTIONS = 64
"""Further ones are closed at once."""

_LIMITS = HttpLimits(
    max_header_bytes=8 * 1024,
    max_url_bytes=1024,
    max_request_body_bytes=0,
    keep_alive_timeout_s=120.0,
    header_timeout_s=10.0,
)


class MetricsPort:
    """Opened by `open`, closed by `close`; belongs to the running loop."""

    def __init__(self, exposition: Exposition, runtime_dir: str, hosts: Iterable[str] = ()) -> None:
        self._exposition = exposition
        self._runtime_dir = runtime_dir
        self._hosts = frozenset(host.lower() for host in hosts if host)
        self._connections = Connections(_LIMITS)
        self._crowd = Crowd(self, self._connections, MAX_CONNECTIONS)
        self._listener: Listener | None = None
        self._tasks = Tasks("metrics port")

    def open(self, port: int) -> None:
        """Listens on `port` (0: any). When that cannot be the log says why, and nothing else fails."""
        url_path = os.path.join(self._runtime_dir, URL_FILE)
        try:
            sock = _bind(port)
            try:
                url = f"http://{HOST}:{sock.getsockname()[1]}/metrics"
                write_private(url_path, url.encode() + b"\n")
            except OSError:
                sock.close()
                raise
        except OSError as error:
            logger.error(
                "Metrics cannot be served on port %d: %s. Set EAGLERAY_METRICS_EXPORT_PORT to a free one; "
                "the REST server has them too.",
                port,
                error,
            )
            return
        logger.info("Metrics are at %s", url)
        self._listener = Listener(sock, self._connection)
        self._connections.on_discard = self._listener.on_descriptor_freed
        self._listener.start()

    async def close(self) -> None:
        """Ends all connections. Idempotent."""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        self._connections.close()
        await self._tasks.close()

    def _connection(self) -> asyncio.BaseProtocol:
        return self._crowd.newcomer()

    # ---- RequestSink -------------------------------------------------------------------------------------------

    def begin(self, connection: HttpConnection, request: Request) -> RequestHandler | None:
        try:
            check_place(request.headers, self._hosts)
            if request.path != "/metrics":
                raise Refusal(404, "Not found. There is only /metrics here.")
            if request.method not in ("GET", "HEAD"):
                raise Refusal(405, "Method Not Allowed: this path has GET.")
            if request.upgrade or not request.complete:
                raise Refusal(400, "Bad request: no body and no WebSocket.")
        except Refusal as refusal:
            connection.respond(refusal.status, TEXT, refusal.text.encode("utf-8", "replace"))
            return None
        accept = b",".join(value for name, value in request.headers if name == b"accept").decode("latin-1")
        scrape = _Scrape(connection)
        self._tasks.start(scrape.answer(self._exposition, accept), name="scrape")
        return scrape

    def refused(self, status: int) -> None:
        """A request was refused before it became one."""


class _Scrape:
    """One request."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection: HttpConnection | None = connection

    async def answer(self, exposition: Exposition, accept: str) -> None:
        try:
            kind, body = await exposition.read(accept)
            status, headers = 200, [(b"content-type", kind)]
        except Refusal as refusal:
            status, headers, body = refusal.status, TEXT, refusal.text.encode()
        if self._connection is not None:
            self._connection.respond(status, headers, body)

    def on_body(self, chunk: bytes) -> None:
        """There is none."""

    def on_body_end(self) -> None:
        """There is none."""

    def on_body_refused(self, error: HttpRefused) -> None:
        if self._connection is not None:
            self._connection.respond_refusal(error.status, error.text)

    def on_disconnect(self) -> None:
        self._connection = None

    def on_drained(self) -> None:
        """Answers are written whole."""


def _bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # against TIME_WAIT
        sock.bind((HOST, port))
        sock.listen(64)
        sock.setblocking(False)
    except (OSError, OverflowError) as error:
        sock.close()
        raise OSError(str(error)) from None
    return sock
