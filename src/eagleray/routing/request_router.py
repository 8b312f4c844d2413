"""The contract of custom routers, as Ray Serve has it: subclass `RequestRouter` and say in what order to try replicas.

A router object lives in every process that calls the deployment, on the loop that carries the calls: it must not block.
`routing.chooser` runs it; what is known of replicas here is live, so nothing has to be probed or cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eagleray.base.ids import DeploymentID, ReplicaID, new_unique_id
from eagleray.wire import codec
from eagleray.wire.messages import CallKind

if TYPE_CHECKING:
    from eagleray.routing.call import RoutedCall
    from eagleray.routing.target import Target

_HTTP = int(CallKind.HTTP)
_PYTHON = int(CallKind.PYTHON)


@dataclass(frozen=True)
class RequestMetadata:
    """What is known of a request beside its arguments. Clients may set `request_id`, `internal_request_id` is ours."""

    request_id: str
    internal_request_id: str
    call_method: str = "__call__"
    route: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    is_streaming: bool = False
    is_http_request: bool = False


@dataclass
class RequestRoutingContext:
    """What has been tried for one request; the mixins' helpers keep their notes here."""

    multiplexed_start_matching_time: float | None = None
    tried_fewest_multiplexed_models: bool = False
    tried_first_multiplexed_models: bool = False
    tried_same_node: bool = False
    tried_same_az: bool = False
    should_backoff: bool = False


class PendingRequest:
    """A request that a replica is chosen for.

    `args` and `kwargs` are those of a handle call; an HTTP request has one, its head (`method`, `path`,
    `query_string`, `headers`). `created_at` is wall time, in seconds.
    """

    def __init__(
        self,
        args: list[Any],
        kwargs: dict[str, Any],
        metadata: RequestMetadata,
        created_at: float | None = None,
        routing_context: RequestRoutingContext | None = None,
        resolved: bool = True,
    ) -> None:
        self._arguments: tuple[list[Any], dict[str, Any]] | None = (args, kwargs)
        self.metadata = metadata
        self.created_at = time.time() if created_at is None else created_at
        self.routing_context = routing_context or RequestRoutingContext()
        self.resolved = resolved
        self._call: RoutedCall | None = None
        self._future: asyncio.Future[RunningReplica] | None = None

    @classmethod
    def of(cls, call: RoutedCall) -> PendingRequest:
        """The request that `call` is; its arguments are decoded only when somebody asks for them."""
        head = call.head
        metadata = RequestMetadata(
            head.request_id,
            new_unique_id(),
            head.method or "__call__",
            head.route,
            head.app or call.key.partition("#")[0],
            head.multiplexed_model_id,
            head.session_id,
            head.stream,
            head.kind == _HTTP,
        )
        request = cls([], {}, metadata)
        request._arguments, request._call = None, call
        return request

    def _decoded(self) -> tuple[list[Any], dict[str, Any]]:
        if self._arguments is None:
            assert self._call is not None
            head, body = self._call.head, self._call.body
            if head.kind == _PYTHON and (body or self._call.hints is not None):
                args, kwargs = self._call.hints or codec.load_call(body)
                self._arguments = (list(args), kwargs)
            else:
                self._arguments = ([head.http] if head.http is not None else [], {})
        return self._arguments

    @property
    def args(self) -> list[Any]:
        return self._decoded()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._decoded()[1]

    @property
    def future(self) -> asyncio.Future[RunningReplica]:
        """Gets the replica once one is chosen; to be asked for on the router's loop."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def routed(self, replica: RunningReplica) -> None:
        """A replica is chosen."""
        if self._future is not None and not self._future.done():
            self._future.set_result(replica)


class RunningReplica:
    """A replica that may be chosen. All that it says is true at the moment of asking."""

    def __init__(self, target: Target, deployment_id: DeploymentID) -> None:
        self.target = target
        self._replica_id = ReplicaID(target.entry.replica_id, deployment_id)

    @property
    def replica_id(self) -> ReplicaID:
        return self._replica_id

    @property
    def node_id(self) -> str:
        return self.target.entry.node_id

    @property
    def availability_zone(self) -> str | None:
        return self.target.entry.zone or None

    @property
    def max_ongoing_requests(self) -> int:
        return self.target.max_ongoing

    @property
    def multiplexed_model_ids(self) -> set[str]:
        """Models that it has, is loading, or will load for requests that are on their way."""
        record = self.target.record
        return set(record.model_ids) if record is not None else set()

    @property
    def routing_stats(self) -> dict[str, Any]:
        """What the user's `record_routing_stats` returned last."""
        record = self.target.record
        return record.routing_stats if record is not None else {}

    @property
    def replica_metadata(self) -> dict[str, Any]:
        """What the user's `record_replica_metadata` returned."""
        record = self.target.record
        return record.metadata if record is not None else {}

    @property
    def is_available(self) -> bool:
        """Whether it takes one more request now."""
        return self.target.has_room

    async def get_queue_len(self, *, deadline_s: float = 0.0) -> int:
        """Requests that it runs, those of other callers included; known without asking it."""
        return self.target.score

    def __repr__(self) -> str:
        return f"RunningReplica({self._replica_id})"


class ReplicaQueueLengthCache:
    """Ray Serve's name for what is known of queue lengths; here it is always known."""

    def __init__(self, router: RequestRouter) -> None:
        self._router = router

    def get(self, replica_id: ReplicaID) -> int | None:
        """Requests that the replica runs; None for one that is not there."""
        replica = self._router.curr_replicas.get(replica_id)
        return replica.target.score if replica is not None else None


class RequestRouter:
    """Subclass this, with the mixins in front. `choose_replicas` is all that a router must have.

    It is made once in each process that calls the deployment, with keyword arguments only; those of
    `request_router_kwargs` come by `initialize_state`.
    """

    def __init__(
        self,
        deployment_id: DeploymentID,
        handle_source: str = "",
        initial_backoff_s: float = 0.025,
        backoff_multiplier: float = 2.0,
        max_backoff_s: float = 0.5,
        **kwargs: Any,
    ) -> None:
        self._deployment_id = deployment_id
        self._handle_source = handle_source
        self.initial_backoff_s = initial_backoff_s
        self.backoff_multiplier = backoff_multiplier
        self.max_backoff_s = max_backoff_s
        self._replicas: dict[ReplicaID, RunningReplica] = {}
        self._replica_id_set: set[ReplicaID] = set()
        self._queue_len_cache = ReplicaQueueLengthCache(self)

    # ---- to override -----------------------------------------------------------------------------------------

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        """Groups of replicas, the preferred one first; of a group the least loaded one with room gets the request.

        Called again, after a while or when a replica is free, as long as none of them has room.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `choose_replicas`.")

    def initialize_state(self, **kwargs: Any) -> None:
        """Gets `request_router_kwargs`, before anything else is asked."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """The replicas, their models or their statistics have changed. Overriders call the base's."""
        self._replicas = {replica.replica_id: replica for replica in replicas}
        self._replica_id_set = set(self._replicas)

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any = None
    ) -> None:
        """The request has been sent to the replica. `result` is always None: answers don't pass through here."""

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """A request that was routed has ended, in whatever way."""

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """A request is about to be sent to the replica."""

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """The replica has told how many requests it runs."""

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """The connection with the replica has ended."""
        self._replicas.pop(replica_id, None)
        self._replica_id_set.discard(replica_id)

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        """The replica cannot be reached for the moment."""

    # ---- for subclasses --------------------------------------------------------------------------------------

    @property
    def curr_replicas(self) -> dict[ReplicaID, RunningReplica]:
        """All replicas that requests may go to."""
        return self._replicas

    @property
    def app_name(self) -> str:
        return self._deployment_id.app_name

    @property
    def replica_queue_len_cache(self) -> ReplicaQueueLengthCache:
        return self._queue_len_cache

    def select_available_replicas(
        self, candidates: list[RunningReplica] | None = None
    ) -> list[RunningReplica]:
        """Those that take one more request now; of all replicas when no candidates are given."""
        chosen = list(self._replicas.values()) if candidates is None else candidates
        return [replica for replica in chosen if replica.is_available]


__all__ = [
    "PendingRequest",
    "ReplicaID",
    "RequestRouter",
    "RunningReplica",
]
