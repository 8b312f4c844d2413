"""An HTTP request in the replica: a Starlette `Request` or typed arguments in, any value out, or an ASGI application.

The common case, an `async def` that returns text, bytes or JSON, costs one task and no ASGI message. Everything that
escapes user code becomes an answer: Ray Serve's texts, no traceback for the client, the traceback in the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
from inspect import isawaitable
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from eagleray.base.access_log import AccessLog
from eagleray.base.errors import HTTP_STATUS, BackPressureError, DeploymentUnavailableError, EaglerayError
from eagleray.http.asgi import Exchange, make_scope
from eagleray.replica.call import Call, Floor
from eagleray.replica.encode import JSON, TEXT, encode_result
from eagleray.replica.errors import trimmed
from eagleray.replica.metrics import text_of
from eagleray.replica.passed_request import send_requests
from eagleray.replica.typed import RequestRefused
from eagleray.serve.context import _serve_request_context
from eagleray.wire.messages import Headers
from eagleray.wire.remote_error import cause_of
from eagleray.wire.streams import Incoming

logger = logging.getLogger("ray.serve")
send_requests()

INTERNAL_ERROR = b"Internal Server Error"
_CLIENT_GONE = 499
_NO_LIMIT = 1 << 62
"""The proxy's limit is in force before a body comes here."""


class HttpCall(Call):
    """One HTTP request. `begin_work` once it has a slot; the answer goes out by itself."""

    __slots__ = ("exchange", "scope")

    def __init__(self, floor: Floor, incoming: Incoming) -> None:
        super().__init__(floor, incoming)
        self.exchange = Exchange(incoming, self)
        assert incoming.head.http is not None
        self.scope = make_scope(incoming.head.http)

    def begin_work(self) -> None:
        """Hands the request to user code."""
        incoming = self.incoming
        if not incoming.ended:
            entry = self.floor.user.entry
            if entry is not None and entry.typed is not None:
                incoming.on_cancel = self._on_cancel_early
                incoming.collect(_NO_LIMIT, self._on_body)
                return
            incoming.on_data = self.exchange.on_data
            incoming.accept()
        floor = self.floor
        entry = floor.user.entry
        if entry is not None and entry.in_thread and floor.user.app is None:
            self.run_in_thread(self._work)
        else:
            self.run(self._serve() if floor.user.app is None else self._serve_app(), self.make_context(True))

    def _on_cancel_early(self) -> None:
        self.cancelled = True
        self._fail("cancelled", "", b"")

    def _on_body(self, body: bytes | bytearray) -> None:
        """The whole body of a typed request is here."""
        self.incoming.on_cancel = self.on_cancel
        self.exchange.set_body(bytes(body))
        self.begin_work()

    # ---- on the loop -----------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """A task's root: a plain deployment."""
        try:
            self.enter()
            entry = self.floor.user.entry
            if entry is None:
                raise EaglerayError(self.floor.user.no_entry())
            result = entry.function(self._request()) if entry.takes_arguments else entry.function()
            if entry.is_async or isawaitable(result):
                result = await result
            if isinstance(result, Response):
                await self.respond(result)
            else:
                headers, body = self._encode(result)
                self.answer(200, headers, body)
        except (
            BaseException
        ) as error:  # user code may raise anything; this call, and only this one, ends by it
            self.failed(error)
        finally:
            self.ended()

    async def _serve_app(self) -> None:
        """A task's root: an ASGI application."""
        exchange = self.exchange
        user = self.floor.user
        assert user.app is not None
        scope = self.asgi_scope = self.scope
        if user.lifespan is not None and user.lifespan.state:
            scope["state"] = user.lifespan.state.copy()
        try:
            self.enter()
            await user.app(scope, exchange.receive, exchange.send)
            if not exchange.complete:
                raise EaglerayError("The ASGI application has returned without a whole response.")
        except BaseException as error:  # as in `_serve`
            self.failed(error)
        finally:
            self.ended()

    def _request(self) -> Request:
        exchange = self.exchange
        request = Request(self.scope, exchange.receive, exchange.send)
        body = exchange.whole_body
        if body is not None:
            # What `await request.body()` would store; it saves two suspensions for each request with a body.
            request._body = body
        return request

    async def respond(self, result: Any) -> None:
        """Answers with what user code has returned."""
        if isinstance(result, Response):
            await result(self.scope, self.exchange.receive, self.exchange.send)
            return
        headers, body = self._encode(result)
        self.answer(200, headers, body)

    def _encode(self, result: Any) -> tuple[Headers, bytes]:
        kind = type(result)
        if kind is GeneratorType or kind is AsyncGeneratorType:
            raise TypeError(
                f"{self.floor.user.name} has returned a generator to an HTTP request. Return "
                f"`starlette.responses.StreamingResponse(generator)` to stream, or a list."
            )
        return encode_result(result)

    def _leave(self, code: str = "") -> int:
        self.exchange.close()
        return super()._leave(code)

    def cancel(self) -> None:
        super().cancel()
        self.exchange.disconnect()

    # ---- in a thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        """A sync entry, in a thread of its own."""
        self.floor.base_context.copy().run(self._work_in_context)

    def _work_in_context(self) -> None:
        try:
            _serve_request_context.set(self.make_context(True))
            entry = self.floor.user.entry
            assert entry is not None
            if self.cancelled:
                raise asyncio.CancelledError
            result = entry.function(self._request()) if entry.takes_arguments else entry.function()
            if isinstance(result, Response) or isawaitable(result):
                self.floor.put(self.continue_on_loop, result)
                return
            headers, body = self._encode(result)
        except BaseException as error:  # the root of this thread's work
            self.failed(error)
        else:
            self.answer(200, headers, body)

    def log_to(self, log: AccessLog, code: str, now: float) -> None:
        head = self.incoming.head
        assert head.http is not None
        route = head.route if self.asgi_scope is None else text_of(self.route)
        status = http_status(code) if code else self.status
        log.add(head.http.method, route, status, self.begun_at or now, now, head, head.http.client)

    def describe(self, code: str) -> tuple[str, str, int | str]:
        head = self.incoming.head
        assert head.http is not None
        route = head.route if self.asgi_scope is None else text_of(self.route)
        return head.http.method, route, http_status(code) if code else self.status

    # ---- failures --------------------------------------------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """Answers for user code that has raised; never raises itself."""
        exchange = self.exchange
        if self.cancelled and not exchange.complete:
            self.fail_cancelled()
            return
        context = self.context
        request_id = context.request_id if context is not None else ""
        refusal = None
        try:
            if type(error) is not RequestRefused:
                self.count_error(type(error).__name__)
            refusal = None if exchange.begun else refusal_of(error)
            if refusal is None:
                logger.error("Request %s has failed.", request_id, exc_info=trimmed(error))
        except BaseException as second:  # a user's exception may fail to say what it is
            names = type(error).__name__, type(second).__name__
            logger.error("Request %s has failed: %s was raised, and describing it: %s", request_id, *names)
        if refusal is not None:
            self.answer(*refusal)
            return
        if exchange.complete:
            return
        if exchange.begun:
            self.fail("user", f"{type(error).__name__} after the response had begun")
        else:
            self.answer(500, TEXT, INTERNAL_ERROR)


def http_status(code: str) -> int:
    """The status in the access log for a call that has failed."""
    return _CLIENT_GONE if code == "cancelled" else HTTP_STATUS.get(code, 500)


def refusal_of(error: BaseException) -> tuple[int, Headers, bytes] | None:
    """The answer for a request that cannot be decoded, and for a child call's error that user code lets escape."""
    if type(error) is RequestRefused:
        return error.status, JSON, error.encode()
    cause = cause_of(error)
    for refusal in (cause, error):
        if type(refusal) is DeploymentUnavailableError:
            return 503, TEXT, refusal.message.encode()
        if type(refusal) is BackPressureError:
            headers = TEXT
            if refusal.retry_after_s is not None:
                headers = [*TEXT, (b"retry-after", b"%d" % math.ceil(refusal.retry_after_s))]
            return refusal.status_code, headers, refusal.message.encode()
    return None
