"""When a session's output leaves its connection: a write is a system call that wakes the peer, a delay leaves it idle.

Frames that are emitted while bytes are being received leave when those are done, all others at once: the peer works on
the first while we make the second. Where many calls are under way, the first call or answer of a turn of the loop
leaves at once and the others in small groups. The messages of streams, many and small, leave together at the loop's
next turn, but for the first; and so do the answers of a batch, which are made in one turn (`hold`).
"""

from __future__ import annotations

import asyncio

from eagleray.wire.session import Session

_GROUP = 4
"""Calls or answers of one turn that leave together."""


class Outlet:
    """The part of `Connection` that sends. Belongs to its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._holds = False
        self._gathering = False
        self._flows = False

    @property
    def session(self) -> Session:
        assert self._session is not None
        return self._session

    def wake(self) -> None:
        """The session has something to send."""
        if not self._holds:
            self._flush()

    def hold(self) -> None:
        """Many frames will be emitted in this turn of the loop: they leave together at its end."""
        if not self._holds:
            self._holds = True
            self._loop.call_soon(self._release)

    def _release(self) -> None:
        self._holds = False
        self._flush()

    def wake_soon(self) -> None:
        """The session has something to send that is one of many: what a turn of the loop emits leaves at its end.

        The first of them leaves at once, unless the turn before had several: then it would only be one more write.
        """
        if not self._holds and not self._gathering:
            if not self._flows:
                self._flush()
            self._gathering = True
            self._loop.call_soon(self._gathered)

    def wake_among(self) -> None:
        """The session has a call or an answer to send, one of many.

        The first of a turn leaves at once, so that the peer has work; then they leave in groups, and what is left at
        the turn's end. To wait for all would leave the peer idle meanwhile.
        """
        if self._holds:
            return
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._gathered)
            self._flush()
        elif len(self.session.out) >= _GROUP:
            self._flush()

    def _gathered(self) -> None:
        self._gathering = False
        self._flows = len(self.session.out) > 1
        self._flush()

    def _flush(self) -> None:
        session = self._session
        transport = self._transport
        if session is None or transport is None:
            return  # it begins: connection_made flushes
        if session.out:
            with session.lock:
                out, session.out = session.out, []
                if len(out) == 1:
                    transport.write(out[0])
                else:
                    transport.writelines(out)
