"""ASGI over a call: what an application sees as scope, receive and send is an `Incoming` on the application's loop.

Bodies go in both directions as they come and stop when the other side does not take them. A response that is whole
with its first body message is one answer; only others are streams.
`Lifespan` is the same protocol for the application's start and end.

Nothing here decides what a failed application means; its owner does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from eagleray.base.errors import EaglerayError
from eagleray.http.outflow import Outflow
from eagleray.wire.messages import Headers, HttpHead
from eagleray.wire.streams import Incoming

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ASGI_VERSION = {"version": "3.0", "spec_version": "2.4"}
"""2.4: `send` raises OSError once the client has gone, so frameworks need no second task that watches for it."""


class Answer(Protocol):
    """Where a response goes."""

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole response."""

    def begin(self, status: int, headers: Headers, first: bytes) -> Outflow:
        """The beginning of a response, with its first chunk; the rest goes through the returned way out."""

    def finish(self) -> None:
        """The end of a response that was begun."""


def make_scope(http: HttpHead) -> dict[str, Any]:
    """The ASGI scope of an HTTP request."""
    return {
        "type": "http",
        "asgi": ASGI_VERSION,
        "http_version": http.http_version,
        "server": http.server,
        "client": http.client,
        "scheme": http.scheme,
        "method": http.method,
        "root_path": http.root_path,
        "path": http.path,
        "raw_path": http.raw_path,
        "query_string": http.query_string,
        "headers": http.headers,
    }


class Exchange:
    """One request and its response. A sync application's thread may only ask for `whole_body`.

    `body` is the whole request body when `complete`, else its first chunk; then the caller sets
    `incoming.on_data = exchange.on_data`, before it accepts the call.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_chunks",
        "_headers",
        "_incoming",
        "_more",
        "_outflow",
        "_status",
        "_waiters",
        "begun",
        "complete",
        "disconnected",
    )

    def __init__(self, incoming: Incoming, answer: Answer) -> None:
        self._incoming = incoming
        self._answer: Answer | None = answer
        self._body: bytes | None = incoming.body
        self._more = not incoming.ended
        self._chunks: deque[tuple[bytes, bool]] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._status = 0
        self._headers: Headers = []
        self._outflow: Outflow | None = None
        self.begun = False
        self.complete = False
        self.disconnected = False

    # ---- the application's side ------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next part of the request body, then, when it is so, that the client has gone or has its answer."""
        body = self._body
        if body is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": self._more}
        while self._more and not self.disconnected and not self.complete:
            if self._chunks:
                chunk, end = self._chunks.popleft()
                self._more = not end
                self._incoming.consumed(len(chunk))
                return {"type": "http.request", "body": chunk, "more_body": not end}
            await self._wait()
        while not self.disconnected and not self.complete:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Takes a message of the response. Raises OSError when the client has gone, RuntimeError out of order."""
        if self.disconnected or (self._answer is None and not self.complete):
            raise OSError("The client has gone.")
        kind = message["type"]
        if kind == "http.response.body":
            outflow = self._outflow
            if outflow is None or self.complete or not message.get("more_body", False):
                outflow = self._send_edge(message)
            elif body := message.get("body", b""):
                outflow.push(body if type(body) is bytes else bytes(body))
            if outflow is not None and outflow.due:
                await outflow.flow()
        elif kind == "http.response.start":
            if self._status:
                raise RuntimeError("The response has been started already.")
            # Converted here: what is not bytes must be this application's error, not the connection's.
            self._headers = [
                (bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())
            ]
            self._status = int(message["status"])
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")

    def _send_edge(self, message: Message) -> Outflow | None:
        """The first or the last piece of the body; where more pieces go, if they are to follow."""
        if not self._status or self.complete:
            problem = "is complete already" if self.complete else "has not been started"
            raise RuntimeError(f"Unexpected ASGI message 'http.response.body': the response {problem}.")
        answer = self._answer
        assert answer is not None, "`send` has looked"
        body = bytes(message.get("body", b""))
        more = message.get("more_body", False)
        outflow = self._outflow
        if outflow is not None:
            if body:
                outflow.push(body)
            self._complete()
            answer.finish()
            return None
        self.begun = True
        if more:
            self._outflow = outflow = answer.begin(self._status, self._headers, body)
            return outflow
        self._complete()
        answer.answer(self._status, self._headers, body)
        return None

    def _complete(self) -> None:
        self.complete = True
        if self._waiters:
            self._wake()

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(future)
        await future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            _release(waiter)

    # ---- the owner's side ------------------------------------------------------------------------------------

    @property
    def whole_body(self) -> bytes | None:
        """The request body, when it is here and nobody has received it yet."""
        return None if self._more else self._body

    def set_body(self, body: bytes) -> None:
        """The owner has collected the whole request body by itself."""
        self._body = body
        self._more = False

    def on_data(self, chunk: bytes, end: bool) -> None:
        """More of the request body."""
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.append((chunk, end))
        if self._waiters:
            self._wake()

    def close(self) -> None:
        """The call has been answered: whoever still sends finds the client gone."""
        self._answer = None  # it holds this exchange

    def disconnect(self) -> None:
        """The client has gone, or cancelled."""
        self.disconnected = True
        if self._waiters:
            self._wake()


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LifespanError(EaglerayError):
    """The application's start-up failed."""


class Lifespan:
    """Runs an application's lifespan in one task. Applications that know no lifespan are left alone.

    `state` is what the application stored for its requests; each request gets a shallow copy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._failure = ""
        self._stage = ""
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Returns when the application is ready. Raises LifespanError when it says that it failed."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lifespan")
        await self._tell("startup")
        if self._failure:
            await asyncio.wait([self._task])
            raise LifespanError(f"The application's lifespan start-up failed:\n{self._failure}")

    async def shutdown(self) -> str:
        """Lets the application clean up; returns what went wrong, or "". Idempotent."""
        task = self._task
        if task is None:
            return ""
        if not task.done():
            await self._tell("shutdown")
            task.cancel()
            await asyncio.wait([task])
        self._task = None
        return self._failure

    async def _tell(self, stage: str) -> None:
        self._stage = stage
        self._changed.clear()
        self._events.put_nowait({"type": f"lifespan.{stage}"})
        await self._changed.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI_VERSION, "state": self.state}
        try:
            await self._app(scope, self._events.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the root of this task; SystemExit too must not reach the loop
            # Before start-up is complete it means that the application knows no lifespan (ASGI, "Lifespan Protocol").
            if self._stage == "shutdown" and not self._failure:
                self._failure = f"{type(error).__name__}: {error}"
        finally:
            self._changed.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            self._failure = message.get("message", "") or "(no message)"
        self._changed.set()
