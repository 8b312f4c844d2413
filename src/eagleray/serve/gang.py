"""What a replica of a gang knows of it, for annotations: the local engine has no gangs (`spec.cluster`)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GangContext:
    """`get_replica_context().gang_context`, which is None on the local engine."""

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: list[str] = field(default_factory=list)
    pg_name: str = ""


__all__ = ["GangContext"]
