"""Calls that one particular replica is to answer, whoever else could: those of broadcasts.

They wait at their target and not in the queue of the pool: no policy is asked, no limit of the queue counts them, and
nobody waits behind them. Whether there is room only the replica knows, so they are sent at once; one that it refuses is
sent again when it says ROOM. They never overrun a replica, because it is the replica that keeps its limit.
"""

from __future__ import annotations

from eagleray.base.errors import EaglerayError, RequestCancelledError
from eagleray.routing.call import DONE, QUEUED, SENT, RoutedCall
from eagleray.routing.target import Target
from eagleray.wire.messages import DRAINING, REJECTED, ErrorHead


class PinnedCall(RoutedCall):
    """`pin` it instead of submitting it. A replica that goes before it has taken the call fails it with
    ReplicaUnavailableError: it has not run. All on the router's loop.
    """

    __slots__ = ()

    def pin(self, target: Target) -> None:
        """To `target` and nowhere else; once."""
        self.pool = target.pool
        self.target = target
        self.state = QUEUED
        target.pinned.append(self)
        target.send_pinned()

    def cancel(self, error: EaglerayError | None = None) -> None:
        target = self.target
        if self.state != QUEUED or target is None:
            super().cancel(error)
            return
        self.state = DONE
        target.pinned.remove(self)
        self.on_failed(error or RequestCancelledError(self.head.request_id))

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        target = self.target
        if head.code not in (REJECTED, DRAINING) or self.state != SENT or target is None:
            super().on_error(head, body)
            return
        self.stream = None
        self.state = QUEUED
        if target.record is not None and target.record.follows:
            target.record.ended(self)
        target.pinned.append(self)
        target.refuse(head.load, draining=head.code == DRAINING)
        if target.draining or not target.listed:
            target.drop_pinned()
