"""Request routers of the scripts: Ray Serve wants them in a module, because it takes them by import path."""

from __future__ import annotations

import os
import random
from typing import Any

from tests.compat.impl import module
from tests.compat.world import Journal

routing = module("request_router")


class Pinning(routing.RequestRouter):  # type: ignore[misc, name-defined]
    """Everything to the replica with the smallest id; what happens is written down."""

    def initialize_state(self, journal: str) -> None:
        self.journal = Journal(journal)

    def update_replicas(self, replicas: list[Any]) -> None:
        super().update_replicas(replicas)
        self.journal.write(f"{os.getpid()} knows {len(replicas)}")

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> Any:
        ranked = sorted(candidate_replicas, key=lambda replica: replica.replica_id.unique_id)
        return [[replica] for replica in ranked]

    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        metadata = pending_request.metadata
        self.journal.write(f"routed {metadata.call_method} {pending_request.args} {replica_id.unique_id}")

    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        self.journal.write("completed")


class ByStats(
    routing.FIFOMixin,  # type: ignore[misc, name-defined]
    routing.LocalityMixin,  # type: ignore[misc, name-defined]
    routing.MultiplexMixin,  # type: ignore[misc, name-defined]
    routing.RequestRouter,  # type: ignore[misc, name-defined]
):
    """Ray Serve's documented example: of those with room, the one whose statistics are lowest."""

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> Any:
        ranked = self.rank_replicas_via_locality(candidate_replicas)
        assert sum(map(len, ranked)) == len(candidate_replicas)
        if pending_request is not None and pending_request.metadata.multiplexed_model_id:
            model_id = pending_request.metadata.multiplexed_model_id
            by_model = self.rank_replicas_via_multiplex(candidate_replicas, model_id)
            if by_model[0]:
                return [by_model[0]]
        if any("cost" not in replica.routing_stats for replica in candidate_replicas):
            return [[random.choice(candidate_replicas)]]
        return [[min(candidate_replicas, key=lambda replica: replica.routing_stats["cost"])]]


class Broken(routing.RequestRouter):  # type: ignore[misc, name-defined]
    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> Any:
        raise RuntimeError("broken router")


class Unmakeable(Broken):
    def initialize_state(self, **kwargs: Any) -> None:
        raise RuntimeError("cannot be made")
