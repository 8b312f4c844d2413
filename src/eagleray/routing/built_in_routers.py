"""The built-in policies as classes that users name in `RequestRouterConfig`, under Ray Serve's names.

Named as they are, they are the policies of `routing.policies` and no code of theirs runs; a user's subclass runs the
`choose_replicas` that is here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from eagleray.routing.policies import ConsistentHash
from eagleray.routing.request_router import PendingRequest, RequestRouter, RunningReplica
from eagleray.routing.router_mixins import FIFOMixin, LocalityMixin, MultiplexMixin


class PowerOfTwoChoicesRequestRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """Two replicas drawn at random, of which the less loaded one gets the request."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            chosen = self.apply_multiplex_routing(pending_request)
        else:
            chosen = self.apply_locality_routing(pending_request)
        found = [replica for replica in candidate_replicas if replica.replica_id in chosen]
        return [random.sample(found, min(2, len(found)))]


class LocalityAwareRouter(FIFOMixin, LocalityMixin, RequestRouter):
    """Replicas of this node first, then those of this zone."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        return self.rank_replicas_via_locality(candidate_replicas)


class RoundRobinRouter(FIFOMixin, MultiplexMixin, RequestRouter):
    """Each replica in turn."""

    _turn = 0

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        found = candidate_replicas
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            chosen = self.apply_multiplex_routing(pending_request)
            found = [replica for replica in found if replica.replica_id in chosen]
        if not found:
            return []
        self._turn += 1
        start = self._turn % len(found)
        return [[replica] for replica in (*found[start:], *found[:start])]


class ConsistentHashRouter(RequestRouter):
    """The same session to the same replica: `num_virtual_nodes` points on the ring for each, `num_fallback_replicas`
    successors that stand in when it is full.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ring = ConsistentHash()

    def initialize_state(self, **kwargs: Any) -> None:
        self._ring = ConsistentHash(**kwargs)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        self._ring.update([replica.target for replica in replicas])

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> Sequence[Sequence[RunningReplica]]:
        session_id = pending_request.metadata.session_id if pending_request is not None else ""
        if not session_id:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        return [[by_id[name]] for name in self._ring.preferred(session_id) if name in by_id]
