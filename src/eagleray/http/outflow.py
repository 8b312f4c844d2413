"""The way out of a stream: chunks go from whoever makes them to the loop of the call, and stop when nobody reads.

The producer, on that loop or in a thread, may be `LIMIT` bytes ahead of what the stream's credit has let go; then it
waits. Producer and loop share two counters and no lock: each side publishes before it looks at the other's field, so a
wake-up may come twice but is never lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagleray.wire.streams import Incoming

Put = Callable[..., object]
"""`put(function, *args)` runs it on the call's loop, in order, and at once when that is here; see `rpc.bridge`."""

LIMIT = 64 * 1024
"""Bytes that a producer may be ahead of credit: a sixteenth of the window, so that hand-overs come in batches."""


class Outflow:
    """One stream's way out. `push`, `full` and `wait` belong to the producer, the rest to the loop of the call."""

    __slots__ = ("_incoming", "_pending", "_pushed", "_put", "_taken", "_waiter")

    def __init__(self, incoming: Incoming, put: Put) -> None:
        self._incoming = incoming
        self._put = put
        self._pushed = 0
        self._taken = 0
        self._pending = 0
        self._waiter: Callable[[], Any] | None = None

    # ---- producer --------------------------------------------------------------------------------------------

    def push(self, chunk: bytes) -> None:
        """Hands over the next chunk, never blocks."""
        self._pushed += len(chunk)
        self._put(self._send, chunk)

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
