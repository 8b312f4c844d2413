"""What custom routers may mix in, under Ray Serve's names: oldest first, nearest first, by model first.

They only look at what the router knows; `routing.chooser` acts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from eagleray.base.ids import ReplicaID
from eagleray.routing.request_router import PendingRequest, RunningReplica


class FIFOMixin:
    """The replica that is chosen for a request goes to the oldest one that waits; without it, to that very request.

    With a multiplexed model id the oldest one of the same model comes first.
    """


@dataclass
class _Locality:
    node_id: str | None = None
    zone: str | None = None
    prefer_node: bool = False
    prefer_zone: bool = False


class LocalityMixin:
    """Helpers to prefer replicas of the same node, then of the same zone. On one machine all are on the same node."""

    _replicas: dict[ReplicaID, RunningReplica]
    _replica_id_set: set[ReplicaID]

    def __init__(
        self,
        self_node_id: str | None = None,
        prefer_local_node_routing: bool = False,
        prefer_local_az_routing: bool = False,
        self_availability_zone: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._locality = _Locality(
            self_node_id, self_availability_zone, prefer_local_node_routing, prefer_local_az_routing
        )

    def _is_local(self, replica: RunningReplica) -> bool:
        return self._locality.node_id is not None and replica.node_id == self._locality.node_id

    def _is_in_zone(self, replica: RunningReplica) -> bool:
        zone = self._locality.zone
        return zone is not None and replica.availability_zone == zone

    def apply_locality_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Ids to try now: those of this node the first time, of this zone the second, then all."""
        if pending_request is None:
            return self._replica_id_set
        tried, preferred = pending_request.routing_context, self._locality
        replicas = self._replicas.values()
        if preferred.prefer_node and not tried.tried_same_node:
            tried.tried_same_node = True
            if near := {replica.replica_id for replica in replicas if self._is_local(replica)}:
                tried.should_backoff = False
                return near
        if preferred.prefer_zone and not tried.tried_same_az:
            tried.tried_same_az = True
            if near := {replica.replica_id for replica in replicas if self._is_in_zone(replica)}:
                tried.should_backoff = False
                return near
        tried.should_backoff = True
        return self._replica_id_set

    def rank_replicas_via_locality(self, replicas: list[RunningReplica]) -> list[list[RunningReplica]]:
        """Three groups: of this node, of this zone, others."""
        ranks: list[list[RunningReplica]] = [[], [], []]
        for replica in replicas:
            ranks[0 if self._is_local(replica) else 1 if self._is_in_zone(replica) else 2].append(replica)
        return ranks


MATCHING_TIMEOUT_S = 1.0
"""Seconds for which `apply_multiplex_routing` names the replicas that have the model only."""


class MultiplexMixin:
    """Helpers to prefer replicas that have the model of a request."""

    _replicas: dict[ReplicaID, RunningReplica]
    _replica_id_set: set[ReplicaID]

    def _holders(self, model_id: str) -> set[ReplicaID]:
        return {
            replica_id
            for replica_id, replica in self._replicas.items()
            if model_id in replica.multiplexed_model_ids
        }

    def _with_fewest_models(self) -> set[ReplicaID]:
        counts = {
            replica_id: len(replica.multiplexed_model_ids) for replica_id, replica in self._replicas.items()
        }
        fewest = min(counts.values(), default=0)
        return {replica_id for replica_id, count in counts.items() if count == fewest}

    def apply_multiplex_routing(self, pending_request: PendingRequest | None = None) -> set[ReplicaID]:
        """Ids to try now: those that have the model, or else those with the fewest; after a second, all."""
        if pending_request is None:
            return self._replica_id_set
        tried = pending_request.routing_context
        tried.should_backoff = True
        now = time.monotonic()
        if tried.multiplexed_start_matching_time is None:
            tried.multiplexed_start_matching_time = now
        if now - tried.multiplexed_start_matching_time < MATCHING_TIMEOUT_S:
            tried.tried_first_multiplexed_models = True
            holders = self._holders(pending_request.metadata.multiplexed_model_id)
            return holders or self._with_fewest_models()
        if not tried.tried_fewest_multiplexed_models:
            tried.tried_fewest_multiplexed_models = True
            return self._with_fewest_models()
        return self._replica_id_set

    def rank_replicas_via_multiplex(
        self, replicas: list[RunningReplica], multiplexed_model_id: str
    ) -> list[list[RunningReplica]]:
        """Three groups: those that have the model, those with the fewest models, others."""
        holders, fewest = self._holders(multiplexed_model_id), self._with_fewest_models()
        ranks: list[list[RunningReplica]] = [[], [], []]
        for replica in replicas:
            rank = 0 if replica.replica_id in holders else 1 if replica.replica_id in fewest else 2
            ranks[rank].append(replica)
        return ranks
