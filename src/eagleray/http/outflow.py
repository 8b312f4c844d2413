"""The way out of a stream: chunks go from whoever makes them to the loop of the call, and stop when nobody reads.

What is pushed on the loop leaves with the loop's turn, so a producer that keeps the loop gives it a turn when it is
`due`: after the first chunk, and after each that took its time, but not after each of thousands a second.

The producer, on that loop or in a thread, may be `LIMIT` bytes ahead of what the stream's credit has let go; then it
waits. Producer and loop share two counters and no lock: each side publishes before it looks at the other's field, so a
wake-up may come twice but is never lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from eagleray.wire.streams import Incoming

Put = Callable[..., object]
"""`put(function, *args)` runs it on the call's loop, in order, and at once when that is here; see `rpc.bridge`."""

LIMIT = 64 * 1024
"""Bytes that a producer may be ahead of credit: a sixteenth of the window, so that hand-overs come in batches."""
JOINED = 64 * 1024
"""Bytes up to which the first chunk travels with the beginning of the answer, on top of `LIMIT`."""
_TURN_S = 0.0005
"""Seconds that a chunk may wait for others before it leaves."""


class Turns:
    """When a producer last gave the loop a turn; shared by all producers of one loop."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0.0


class Outflow:
    """One stream's way out. Its first methods belong to the producer, `flush` to the call's loop."""

    __slots__ = ("_begun", "_incoming", "_pending", "_pushed", "_put", "_taken", "_turns", "_waiter")

    def __init__(self, incoming: Incoming, put: Put | None, turns: Turns) -> None:
        """`put` is None for a producer on the call's loop."""
        self._incoming = incoming
        self._put = put
        self._pushed = 0
        self._taken = 0
        self._pending = 0
        self._turns = turns
        self._begun = False
        self._waiter: Callable[[], Any] | None = None

    # ---- producer --------------------------------------------------------------------------------------------

    def push(self, chunk: bytes) -> None:
        """Hands over the next chunk, never blocks."""
        self._pushed += len(chunk)
        if self._put is not None:
            self._put(self._send, chunk)
        elif not self._pending and self._incoming.send_now(chunk):
            self._taken += len(chunk)
        else:
            self._send(chunk)

    @property
    def full(self) -> bool:
        """Whether the producer should stop until it is woken."""
        return self._pushed - self._taken > LIMIT

    def wait(self, wake: Callable[[], Any]) -> bool:
        """False: go on. True: `wake` will be called on the loop, at least once, when there is room."""
        self._waiter = wake
        if self.full:
            return True
        self._waiter = None
        return False

    @property
    def due(self) -> bool:
        """Whether a producer on the loop should `flow` before it makes the next chunk."""
        return self._pushed - self._taken > LIMIT or monotonic() - self._turns.at > _TURN_S or not self._begun

    async def flow(self) -> None:
        """On the loop: lets what was pushed leave, and waits while the way out is full."""
        if self.full:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self.wait(partial(_release, future)):
                await future
        else:
            await asyncio.sleep(0)
        self._begun = True
        self._turns.at = monotonic()

    # ---- the loop --------------------------------------------------------------------------------------------

    def _send(self, chunk: bytes) -> None:
        incoming = self._incoming
        self._pending += len(chunk)
        incoming.send(chunk)
        if incoming.writable or incoming.closed:
            self.flush()
        else:
            incoming.on_writable = self.flush

    def flush(self) -> None:
        """What was sent is out (or nobody wants it any more): the producer may go on."""
        self._taken += self._pending
        self._pending = 0
        waiter = self._waiter
        if waiter is not None and not self.full:
            self._waiter = None
            waiter()


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
