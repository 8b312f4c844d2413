"""The REST server: the proxy's HTTP/1.1 with tight limits, a gate in front of every request, one task for each that
passes.

It runs on the controller's loop, so nothing here may take long: details are encoded, bodies are parsed, the rest is the
controller's own work.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import cast

from eagleray.admin.actions import Actions, Answer, Call
from eagleray.admin.audit import Audit
from eagleray.admin.body import MAX_BODY_BYTES, check_content_type
from eagleray.admin.crowd import Crowd, Member
from eagleray.admin.gate import Gate, Refusal, single
from eagleray.admin.routes import Match, find
from eagleray.admin.tokens import Role
from eagleray.base.clock import Clock, SystemClock
from eagleray.base.tasks import Tasks
from eagleray.http.connection import HttpConnection, RequestHandler
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.http.request import HttpRefused, Request
from eagleray.http.response import TEXT
from eagleray.wire.messages import Headers

logger = logging.getLogger("eagleray.admin")

MAX_CONNECTIONS = 128
"""For a further one the oldest without a token goes: the controller needs its descriptors for other things."""

FAILURES_AT_ONCE = 20
"""Failed authentications that are answered at once; each second forgives one."""

FAILURE_DELAY_S = 1.0
"""How long the answers to further ones are held back; right tokens are never delayed."""

_LIMITS = HttpLimits(
    max_header_bytes=16 * 1024,
    max_url_bytes=4 * 1024,
    max_request_body_bytes=MAX_BODY_BYTES,
    header_timeout_s=3.0,
    body_grace_s=5.0,
    keep_alive_timeout_s=30.0,
    min_body_rate=10_000.0,
)
_NO_STORE: Headers = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_READS = ("GET", "HEAD")


class AdminServer:
    """The sink of all connections of the REST server. `close` ends them."""

    def __init__(
        self,
        gate: Gate,
        actions: Actions,
        audit: Audit,
        *,
        clock: Clock | None = None,
        failures_at_once: float = FAILURES_AT_ONCE,
    ) -> None:
        self.connections = Connections(_LIMITS)
        self.audit = audit
        self.actions = actions
        self.tasks = Tasks("admin")
        self._crowd = Crowd(self, self.connections, MAX_CONNECTIONS)
        self._gate = gate
        self._clock = clock or SystemClock()
        self._most_failures = self._failures_left = failures_at_once
        self._failed_at = self._clock.now()

    def connection(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""
        return self._crowd.newcomer()

    async def close(self, grace_s: float = 1.0) -> None:
        """Lets present requests end within the grace, then cuts off what is left."""
        await self.connections.drain(grace_s)
        await self.tasks.close()

    # ---- RequestSink -------------------------------------------------------------------------------------------

    def begin(self, connection: HttpConnection, request: Request) -> RequestHandler | None:
        role = Role.NONE
        try:
            role = self._gate.admit(request.headers)
            self._crowd.recognise(cast(Member, connection))  # it has made no others
            match, is_yaml = _check(request, role)
        except Refusal as refusal:
            return self._refuse(connection, request, role, refusal)
        query = request.query_string.decode("ascii", "replace")
        accept = b",".join(value for name, value in request.headers if name == b"accept").decode("latin-1")
        exchange = _Exchange(self, connection, request, Call(match, role, query, b"", is_yaml, accept))
        if request.complete:
            exchange.on_body_end()
        return exchange

    def refused(self, status: int) -> None:
        """A request was refused before it became one."""

    def _refuse(
        self, connection: HttpConnection, request: Request, role: Role, refusal: Refusal
    ) -> RequestHandler | None:
        if role is Role.NONE:
            request.keep_alive = False
        delays = refusal.is_authentication and not self._forgives()
        if request.method not in _READS and not delays:
            path = request.raw_path.decode("ascii", "replace")
            self.audit.record(role, connection.client, request.method, path, refusal.status, refusal.text)
        if delays:
            return _Delayed(connection, refusal)
        _respond_refusal(connection, refusal)
        return None

    def _forgives(self) -> bool:
        """Whether a failed authentication is one of few, so that its answer need not wait."""
        now = self._clock.now()
        self._failures_left = min(self._most_failures, self._failures_left + now - self._failed_at)
        self._failed_at = now
        if self._failures_left < 1.0:
            return False
        self._failures_left -= 1.0
        return True


def _check(request: Request, role: Role) -> tuple[Match, bool]:
    """The route and whether the body is YAML. Raises Refusal 400, 404, 405, 403, 415."""
    if request.upgrade:
        raise Refusal(400, "Bad request: there are no WebSockets here.")
    found = find(request.method, request.raw_path)
    if isinstance(found, list):
        if found:
            raise Refusal(405, f"Method Not Allowed: this path has {', '.join(found)}.")
        raise Refusal(404, "Not found. GET /api/serve/openapi.json lists what there is.")
    route = found.route
    if role < route.role:
        raise Refusal(403, "Forbidden: this token may only read; use the one in admin.token.")
    takes_yaml = route.body == "config"
    kind = single(request.headers, b"content-type")
    return found, check_content_type(kind, takes_yaml=takes_yaml, has_body=route.body != "none")


def _respond_refusal(connection: HttpConnection, refusal: Refusal) -> None:
    headers = TEXT + _NO_STORE
    if refusal.status == 401:
        headers = [*headers, (b"www-authenticate", b"Bearer")]
    connection.respond(refusal.status, headers, refusal.text.encode("utf-8", "replace"))


class _Exchange:
    """One admitted request: collects its body, then has it performed in a task that outlives the client."""

    def __init__(self, server: AdminServer, connection: HttpConnection, request: Request, call: Call) -> None:
        self._server = server
        self._connection: HttpConnection | None = connection
        self._client = connection.client
        self._request = request
        self._call = call
        self._parts = [request.body]

    def on_body(self, chunk: bytes) -> None:
        self._parts.append(chunk)

    def on_body_end(self) -> None:
        call = self._call
        call = replace(call, body=b"".join(self._parts))
        self._parts = []
        self._server.tasks.start(self._perform(call), name=call.match.route.action)

    def on_body_refused(self, error: HttpRefused) -> None:
        if self._connection is not None:
            self._connection.respond_refusal(error.status, error.text)

    def on_disconnect(self) -> None:
        self._connection = None

    def on_drained(self) -> None:
        """Answers are written whole."""

    async def _perform(self, call: Call) -> None:
        answer = await self._server.actions.perform(call)
        request = self._request
        if request.method not in _READS:
            path = request.raw_path.decode("ascii", "replace")
            self._server.audit.record(
                call.role, self._client, request.method, path, answer.status, answer.what
            )
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if self._connection is not None:
            self._connection.respond(answer.status, [*answer.headers, *_NO_STORE], answer.body)


class _Delayed:
    """A refusal that is held back for a moment."""

    def __init__(self, connection: HttpConnection, refusal: Refusal) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(FAILURE_DELAY_S, _respond_refusal, connection, refusal)
        self._connection = connection

    def on_body(self, chunk: bytes) -> None:
        """Nobody will read it."""

    def on_body_end(self) -> None:
        """Nobody has read it."""

    def on_body_refused(self, error: HttpRefused) -> None:
        self._timer.cancel()
        self._connection.respond_refusal(error.status, error.text)

    def on_disconnect(self) -> None:
        self._timer.cancel()

    def on_drained(self) -> None:
        """Nothing was written yet."""
