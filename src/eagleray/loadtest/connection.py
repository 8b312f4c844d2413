"""One client connection that carries a request at a time. It knows bytes; what comes next is its owner's decision."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

from eagleray.loadtest.answer import AnswerReader, BadAnswerError


class Owner(Protocol):
    """Whom a connection tells. After `failed` and `lost` it hears no more of it."""

    def connected(self, connection: Connection) -> None: ...

    def answered(self, connection: Connection) -> None: ...

    def failed(self, connection: Connection, error: str) -> None: ...

    def lost(self, connection: Connection) -> None:
        """It was closed while nothing was asked."""


class Connection(asyncio.Protocol):
    """`intended` and `sent` are the times of the request that is under way; the owner sets them, and `task` dials."""

    __slots__ = (
        "_owner",
        "_timeout_s",
        "_transport",
        "bytes_in",
        "intended",
        "is_asking",
        "is_gone",
        "number",
        "reader",
        "sent",
        "task",
    )

    def __init__(self, owner: Owner, timeout_s: float, *, keep_body: bool = False) -> None:
        self._owner = owner
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self.reader = AnswerReader(keep_body=keep_body)
        self.intended = self.sent = 0.0
        self.number = 0
        self.bytes_in = 0
        self.is_asking = False
        self.is_gone = False
        self.task: asyncio.Task[None] | None = None

    def ask(self, request: bytes, *, head_only: bool) -> None:
        """Sends; the owner is told what becomes of it. Only between two requests."""
        assert self._transport is not None
        self.is_asking = True
        self.reader.begin(head_only=head_only)
        self._transport.write(request)

    def close(self) -> None:
        """At once; the owner is not told. Also while it is being dialled. Idempotent."""
        self.is_gone = True
        self.is_asking = False
        if self._transport is not None:
            self._transport.abort()
        elif self.task is not None:
            self.task.cancel()

    # ---- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        if self.is_gone:
            self._transport.abort()
        else:
            self._owner.connected(self)

    def data_received(self, data: bytes) -> None:
        if self.is_gone:
            return
        self.bytes_in += len(data)
        if not self.is_asking:  # servers tell so, for instance, that a connection has been idle for too long
            self._end()
            return
        try:
            is_complete = self.reader.feed(data)
        except BadAnswerError:
            self._end("bad answer")
            return
        if is_complete:
            self.is_asking = False
            self._owner.answered(self)
        elif time.monotonic() > self.intended + self._timeout_s:
            # Its owner looks, too, but many answers without end would keep the loop from coming to that.
            self._end("timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_gone:
            return
        if not self.is_asking:
            self._end()
        elif exc is None and self.reader.end():
            self.is_asking = False
            self._owner.answered(self)
        elif self.reader.has_begun:
            self._end("cut off")
        else:
            self._end("reset" if isinstance(exc, ConnectionResetError | BrokenPipeError) else "closed")

    def _end(self, error: str = "") -> None:
        self.close()
        if error:
            self._owner.failed(self, error)
        else:
            self._owner.lost(self)
