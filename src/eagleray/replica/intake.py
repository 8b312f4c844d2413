"""Where calls come into a replica: each takes a slot and begins, or is refused at once. On the user's loop."""

from __future__ import annotations

from time import monotonic
from typing import Any

from eagleray.base.spans import Tracer
from eagleray.replica.call import Floor
from eagleray.replica.describe_call import DescribeCall
from eagleray.replica.grpc_call import GrpcCall
from eagleray.replica.http_call import HttpCall
from eagleray.replica.metrics import ReplicaMetrics
from eagleray.replica.python_call import PythonCall
from eagleray.replica.slots import Slots
from eagleray.replica.websocket_call import WebSocketCall
from eagleray.rpc.feed import MetricsFeed
from eagleray.rpc.server import Incoming
from eagleray.wire.messages import CallKind, ErrorHead

_CALLS: dict[int, Any] = {
    CallKind.HTTP: HttpCall,
    CallKind.GRPC: GrpcCall,
    CallKind.PYTHON: PythonCall,
    CallKind.WEBSOCKET: WebSocketCall,
    CallKind.DESCRIBE: DescribeCall,
}


class Intake:
    """Slots stay closed until there is a `floor` to work on."""

    def __init__(self, slots: Slots, metrics: ReplicaMetrics, feed: MetricsFeed) -> None:
        self._feed = feed
        self.calls = _CALLS
        """What makes a call of each kind."""
        self.floor: Floor | None = None
        self._slots = slots
        self._metrics = metrics

    def trace(self, tracer: Tracer) -> None:
        """Calls are traced from now on."""
        from eagleray.replica.traced import traced_calls  # nobody else pays for loading it

        self.calls = traced_calls(_CALLS, tracer)

    def take(self, incoming: Incoming) -> None:
        if self._feed.asleep:
            self._feed.wake()
        head = incoming.head
        if head.deadline and head.deadline < monotonic():
            self._metrics.expired()
            incoming.fail(
                ErrorHead("timeout", "The deadline had passed before it began.", self._slots.ongoing)
            )
            return
        refusal = self._slots.refusal(incoming.connection)
        floor = self.floor
        if refusal is not None or floor is None:
            assert refusal is not None
            self._metrics.rejected()
            incoming.fail(refusal)
        else:
            self.calls[head.kind](floor, incoming).begin_work()
