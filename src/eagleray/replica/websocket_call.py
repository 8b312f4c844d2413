"""A WebSocket in the replica: the call whose task is the ASGI application, from the handshake to its return.

It holds its slot for its whole life. Until the application has accepted, it is a request like any other: a client that
goes, or a handshake that takes too long, cancels the task. After that the client's going is no cancellation: the
application hears it from `receive` or `send` and ends by itself. A CANCEL of the wire says the same (the client has
gone and cannot be waited for), unless the request's deadline has passed: then the task is cancelled too.
"""

from __future__ import annotations

import logging
from time import monotonic

from starlette.websockets import WebSocketDisconnect

from eagleray.base.errors import EaglerayError
from eagleray.http.asgi_websocket import OPEN, ClientDisconnectedError, WebSocket, make_websocket_scope
from eagleray.replica.call import Call, Floor
from eagleray.replica.encode import TEXT
from eagleray.replica.errors import trimmed
from eagleray.replica.http_call import INTERNAL_ERROR, http_status, refusal_of
from eagleray.wire.streams import Incoming
from eagleray.wire.websocket import ABNORMAL, OK, SERVICE_RESTART
from eagleray.wire.websocket import INTERNAL_ERROR as FAILED

logger = logging.getLogger("ray.serve")


class WebSocketCall(Call):
    """One WebSocket. `begin_work` once it has a slot; all else goes by itself."""

    __slots__ = ("websocket",)

    def __init__(self, floor: Floor, incoming: Incoming) -> None:
        super().__init__(floor, incoming)
        self.websocket = WebSocket(incoming, self)

    def begin_work(self) -> None:
        """Hands the WebSocket to the application."""
        user, incoming = self.floor.user, self.incoming
        if user.app is None:
            text = (
                f"Deployment '{user.name}' does not speak WebSocket: "
                f"only ASGI applications that are given to @serve.ingress do."
            )
            self.answer(403, TEXT, text.encode())
            return
        incoming.on_data = self.websocket.on_data
        incoming.accept()
        self.run(self._serve(), self.make_context(True))

    async def _serve(self) -> None:
        """A task's root."""
        websocket, user = self.websocket, self.floor.user
        http = self.incoming.head.http
        assert user.app is not None and http is not None
        try:
            self.enter()
            scope = self.asgi_scope = make_websocket_scope(http)
            if user.lifespan is not None and user.lifespan.state:
                scope["state"] = user.lifespan.state.copy()
            await user.app(scope, websocket.receive, websocket.send)
            self._returned()
        except (
            BaseException
        ) as error:  # user code may raise anything; this call, and only this one, ends by it
            self.failed(error)
        finally:
            self.ended()

    def describe(self, code: str) -> tuple[str, str, int | str]:
        websocket = self.websocket
        if self.status != 101:
            status = http_status(code) if code else self.status
        else:
            closed = websocket.closed or websocket.gone
            status = closed[0] if closed else FAILED if code else OK
        return "WS", self.incoming.head.route, status

    # ---- the end ---------------------------------------------------------------------------------------------

    def on_cancel(self) -> None:
        """The client has gone, with messages of its own still unread, or before the handshake was answered."""
        deadline = self.incoming.head.deadline
        if not self.websocket.accepted or (deadline and monotonic() >= deadline):
            super().on_cancel()
        elif self.outflow is not None:
            self.outflow.flush()
        self.websocket.disconnect(ABNORMAL, "")

    def cancel(self) -> None:
        super().cancel()
        self.websocket.disconnect(SERVICE_RESTART, "")

    def _returned(self) -> None:
        """The application has ended of its own accord."""
        websocket = self.websocket
        if websocket.answered:
            return
        if self.cancelled:
            self._stopped()
        elif websocket.accepted and not self.incoming.cancelled:
            self.finish()
        elif websocket.gone is not None:
            self.fail("cancelled", "The client has gone.")
        else:
            raise EaglerayError("The ASGI application has returned without a whole answer to the handshake.")

    def failed(self, error: BaseException) -> None:
        """Ends the call of an application that has raised; never raises itself."""
        websocket = self.websocket
        if websocket.answered:
            if not self.cancelled:
                self._log(error)
            return
        if self.cancelled:
            self._stopped()
            return
        if websocket.gone is not None and isinstance(error, WebSocketDisconnect | ClientDisconnectedError):
            self._returned()  # what `receive` and `send` raise when the client goes, and nobody has caught
            return
        self.count_error(type(error).__name__)
        refusal = None if websocket.begun else refusal_of(error)
        if refusal is None:
            self._log(error)
        if websocket.begun:
            self.fail("user", f"{type(error).__name__} in a WebSocket")
        else:
            self.answer(*(refusal or (500, TEXT, INTERNAL_ERROR)))

    def _stopped(self) -> None:
        """The deadline has passed, or the replica's time to stop is over."""
        if self.floor.stopping and self.websocket.state == OPEN and not self.incoming.cancelled:
            self.websocket.end(SERVICE_RESTART, "the replica restarts")
            self.finish()
        else:
            self.fail_cancelled()

    def _log(self, error: BaseException) -> None:
        context = self.context
        request_id = context.request_id if context is not None else ""
        logger.error("WebSocket %s has failed.", request_id, exc_info=trimmed(error))
