"""One request's life in the proxy: a routed call at one end, a client's connection at the other.

The exchange answers the client exactly once: with what the replica says, or with the status that the error tree
gives a failure. It never blocks and starts no task; back-pressure goes through it in both directions. Once it has
answered it lets go of the connection, which by then may serve the next request.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from eagleray.base.errors import (
    HTTP_STATUS,
    BackPressureError,
    DeploymentUnavailableError,
    EaglerayError,
    ReplicaDiedError,
    RequestCancelledError,
    RequestTimeoutError,
)
from eagleray.http.connection import HttpConnection
from eagleray.http.request import HttpRefused, Request
from eagleray.http.response import TEXT, BadResponseError
from eagleray.routing import RoutedCall
from eagleray.routing.call import NEW
from eagleray.wire.messages import CallHead, ErrorHead, Headers, ReplyHead

if TYPE_CHECKING:
    from eagleray.proxy.deadlines import Timed
    from eagleray.proxy.server import ProxyServer
    from eagleray.wire.streams import ClientStream

_CHUNK_BYTES = 256 * 1024
"""The largest chunk of the wire; larger ones would be put together again by the replica."""

_INTERNAL_ERROR = b"Internal Server Error"
_CLIENT_GONE = 499

_SAFE = frozenset(("GET", "HEAD"))
"""Methods that ask for nothing to be changed (RFC 9110, 9.2.1): who may have been answered may ask again."""


class Exchange(RoutedCall):
    """Made by `ProxyServer.begin`, which submits it to the router."""

    __slots__ = (
        "_accepted",
        "_again",
        "_backlog",
        "_body_ended",
        "_bucket",
        "_connection",
        "_keeps_running",
        "_pattern",
        "_refused",
        "_server",
        "_timeout_s",
        "_uncredited",
        "method",
        "request_id",
    )

    def __init__(
        self,
        server: ProxyServer,
        connection: HttpConnection,
        request: Request,
        key: str,
        head: CallHead,
        request_id: bytes,
    ) -> None:
        super().__init__(key, head, request.body, request.complete)
        self._server = server
        self._connection: HttpConnection | None = connection
        self.request_id = request_id
        self.method = request.method
        self.came_at = monotonic()
        self._keeps_running = False
        self._pattern = ""
        self._timeout_s = 0.0
        self._bucket: set[Timed] | None = None
        self._refused: HttpRefused | None = None
        self._accepted = False
        self._again = False
        self._body_ended = request.complete
        self._backlog: list[bytes] = []
        self._uncredited = 0

    def set_timeout(self, timeout_s: float) -> None:
        """The response must have begun by then, and ended too."""
        self._timeout_s = timeout_s
        self.head.deadline = self.came_at + timeout_s
        self._bucket = self._server.deadlines.add(self, timeout_s)

    def keep_running(self) -> None:
        """The request is finished also when the client goes away."""
        self._keeps_running = True

    # ---- the replica's answer --------------------------------------------------------------------------------

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        connection = self._connection
        if end:
            self.stream = (
                None  # it knows us too: without this every request would be a cycle for the collector
            )
        if connection is None:
            self._swallow(len(body))
            return
        self._pattern = head.route
        try:
            if end:
                connection.respond(head.status, head.headers, body, self.request_id)
                self._done(head.status)
            else:
                connection.start(head.status, head.headers, self.request_id)
                self._write(connection, body, False)
        except BadResponseError as error:
            self._server.report_bad_response(self.head, error)
            self._answer(500, TEXT, _INTERNAL_ERROR)
            if not end:
                self.cancel()

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        connection = self._connection
        if end:
            self.stream = None
        if connection is None:
            self._swallow(len(chunk))
        else:
            self._write(connection, chunk, end)

    def _write(self, connection: HttpConnection, chunk: bytes, end: bool) -> None:
        # `respond` and `send` may begin the connection's next request, so this one lets go first.
        status = connection.status
        if end:
            connection.send(chunk, True)
            self._done(status)
            return
        if chunk:
            connection.send(chunk, False)
        if connection.closing:  # the body contradicts its content-length
            self._done(500)
            self.cancel()
        elif connection.writable:
            if self.stream is not None:
                self.stream.consumed(len(chunk))
        else:
            self._uncredited += len(chunk)

    def on_drained(self) -> None:
        size, self._uncredited = self._uncredited, 0
        if size and self.stream is not None:
            self.stream.consumed(size)

    def _swallow(self, size: int) -> None:
        """Nobody listens any more, but the replica is to come to its end."""
        if self.stream is not None:
            self.stream.consumed(size)

    # ---- no answer -------------------------------------------------------------------------------------------

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self._answer(500, TEXT, _INTERNAL_ERROR)

    def on_failed(self, error: EaglerayError) -> None:
        if self._connection is None:
            return
        refused = self._refused
        if isinstance(error, ReplicaDiedError) and self._begin_again():
            return
        if refused is not None:
            self._answer(refused.status, TEXT, refused.text.encode())
        elif isinstance(error, BackPressureError):
            headers = TEXT
            if error.retry_after_s is not None:
                headers = [*TEXT, (b"retry-after", b"%d" % math.ceil(error.retry_after_s))]
            self._answer(error.status_code, headers, error.message.encode())
        elif isinstance(error, RequestTimeoutError):
            text = f"Request {self.head.request_id} timed out after {self._timeout_s}s."
            self._answer(408, TEXT, (text if self._timeout_s else str(error)).encode())
        elif isinstance(error, DeploymentUnavailableError):
            self._answer(503, TEXT, error.message.encode())
        elif isinstance(error, RequestCancelledError):
            # Not by the client, who would have gone: by the replica or the system, so it is not the client's doing.
            self._answer(500, TEXT, _INTERNAL_ERROR)
        else:
            status = HTTP_STATUS.get(error.code, 500)
            self._answer(status, TEXT, _INTERNAL_ERROR if status == 500 else str(error).encode())

    def _begin_again(self) -> bool:
        """Another replica is asked, once: the request may be what has killed this one."""
        connection = self._connection
        may = self.method in _SAFE and not self._again and self.body_complete and not self.body
        if not may or connection is None or connection.started:
            return False
        self._again = True
        self.state, self.target, self.stream = NEW, None, None
        self._server.submit(self)
        return True

    def on_deadline(self) -> None:
        """The time is up."""
        self._bucket = None
        self.cancel(RequestTimeoutError(self.head.request_id))

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.started:
            self._done(status)  # the client has another one already; the log gets the true one
            connection.cut()
        else:
            connection.respond(status, headers, body, self.request_id)
            self._done(status)

    # ---- the client's body -----------------------------------------------------------------------------------

    def on_body(self, chunk: bytes) -> None:
        if len(chunk) <= _CHUNK_BYTES:
            self._backlog.append(chunk)
        else:
            self._backlog += [chunk[i : i + _CHUNK_BYTES] for i in range(0, len(chunk), _CHUNK_BYTES)]
        self._forward()

    def on_body_end(self) -> None:
        self._body_ended = True
        self._forward()

    def on_accepted(self) -> None:
        self._accepted = True
        self.body = b""  # no other replica will be tried
        self._forward()

    def on_writable(self) -> None:
        self._forward()

    def _forward(self) -> None:
        """Sends what has gathered as far as the replica takes it, and holds the client back for the rest."""
        stream = self._send_backlog()
        if stream is not None and self._body_ended and not self._backlog:
            stream.send(b"", end=True)
        if self._connection is not None:
            self._connection.pause_upload(bool(self._backlog))

    def _send_backlog(self) -> ClientStream | None:
        """Sends as much as there is credit for; the stream, once a replica has taken the call."""
        backlog, stream = self._backlog, self.stream
        if not self._accepted or stream is None:
            return None
        sent = 0
        while sent < len(backlog) and stream.writable:
            stream.send(backlog[sent])
            sent += 1
        if sent:
            del backlog[:sent]
        return stream

    def on_body_refused(self, error: HttpRefused) -> None:
        self._refused = error
        self.cancel()

    # ---- the end ---------------------------------------------------------------------------------------------

    def on_disconnect(self) -> None:
        if self._connection is None:
            return
        self._done(_CLIENT_GONE)
        # An upload that is cut off cannot be finished, whatever the client has asked for.
        if not self._keeps_running or not self._body_ended:
            self.cancel()
        elif self._uncredited:
            self.on_drained()

    def _done(self, status: int) -> None:
        """The client has its answer, or never will; the call itself may still be on its way."""
        connection, self._connection = self._connection, None
        if self._bucket is not None:
            self._bucket.discard(self)
            self._bucket = None
        if connection is not None:
            server, head = self._server, self.head
            server.ongoing -= 1
            if head.route:
                key = (self.method, head.route, self._pattern, status, self.key)
                server.note(key, head, self.came_at, connection.client)
