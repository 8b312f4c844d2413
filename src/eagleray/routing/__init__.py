"""Which replica gets a request: the routing table, the router, its policies, admission."""

from eagleray.routing.call import RoutedCall
from eagleray.routing.router import Router
from eagleray.routing.subscription import Subscription
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, Route, RouteMatcher, RoutingTable

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
