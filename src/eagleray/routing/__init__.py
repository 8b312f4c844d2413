"""Which replica gets a request: the routing table, the router, its policies, admission."""

from .call import RoutedCall
from .router import Router
from .subscription import Subscription
from .table import DeploymentEntry, ReplicaEntry, Route, RouteMatcher, RoutingTable

__all__ = [
    "DeploymentEntry",
    "ReplicaEntry",
    "Route",
    "RouteMatcher",
    "RoutedCall",
    "Router",
    "RoutingTable",
    "Subscription",
]
