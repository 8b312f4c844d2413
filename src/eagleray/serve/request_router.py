"""The contract of custom routers under its familiar path; it is defined in `routing.request_router`."""

from eagleray.base.ids import ReplicaID
from eagleray.routing.built_in_routers import (
    ConsistentHashRouter,
    LocalityAwareRouter,
    PowerOfTwoChoicesRequestRouter,
    RoundRobinRouter,
)
from eagleray.routing.request_router import PendingRequest, RequestMetadata, RequestRouter, RunningReplica
from eagleray.routing.router_mixins import FIFOMixin, LocalityMixin, MultiplexMixin

__all__ = [
    "ConsistentHashRouter",
    "FIFOMixin",
    "LocalityAwareRouter",
    "LocalityMixin",
    "MultiplexMixin",
    "PendingRequest",
    "PowerOfTwoChoicesRequestRouter",
    "ReplicaID",
    "RequestMetadata",
    "RequestRouter",
    "RoundRobinRouter",
    "RunningReplica",
]
