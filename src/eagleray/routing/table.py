"""The routing table: all that the data plane knows of the world, immutable and versioned.

The controller publishes whole tables; whoever routes holds the last one and goes on with it while no controller is
there. Matching is by the longest prefix of whole path segments (surface 3.4).
"""

from __future__ import annotations

import msgspec


class ReplicaEntry(msgspec.Struct, array_like=True, frozen=True):
    """A replica that may get requests. `address` is `unix:/path` or `tcp:host:port`."""

    replica_id: str
    address: str
    max_ongoing: int
    node_id: str = ""
    zone: str = ""


class RouterEntry(msgspec.Struct, array_like=True, frozen=True):
    """How a deployment's replicas are chosen: by the built-in policy `kind`, or by a class of the user's.

    The class is found by `path` (`module:Class`) with `sys_path`, or is in `code` as `codec.dump_code` leaves it.
    `kwargs` is JSON. Back-offs are in seconds.
    """

    kind: str = ""
    path: str = ""
    code: bytes = b""
    kwargs: str = "{}"
    sys_path: tuple[str, ...] = ()
    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 0.5
    as_ray: bool = False
    """Its module imports Eagleray under Ray's names."""


class DeploymentEntry(msgspec.Struct, array_like=True, frozen=True):
    """`failed` is non-empty when the deployment failed to deploy and nothing can answer for it."""

    app: str
    name: str
    replicas: tuple[ReplicaEntry, ...] = ()
    max_queued: int = -1
    failed: str = ""
    backpressure_status: int = 503
    backpressure_retry_after_s: float | None = None
    is_function: bool = False
    router: RouterEntry | None = None
    load_interval_s: float = 0.0
    """How often routers tell the controller how many calls they have for it; 0: it does not scale by them."""


class Route(msgspec.Struct, array_like=True, frozen=True):
    """`prefix` is `/` or has no trailing slash; `deployment` is the key of the ingress deployment."""

    prefix: str
    app: str
    deployment: str


class RoutingTable(msgspec.Struct, frozen=True):
    """`version` grows by one with every change and survives restarts of the controller."""

    version: int = 0
    routes: tuple[Route, ...] = ()
    deployments: dict[str, DeploymentEntry] = {}
    ingress: dict[str, str] = {}
    """Application name -> key of its ingress deployment, also of those without a route."""
    populated: bool = False
    """Whether some application with a route has existed since the start (surface 3.5)."""
    leaving: bool = False
    """The instance is about to end: clients are to go elsewhere, and are served until then."""


class RouteMatcher:
    """Finds the route of a path: one dict lookup for each `/` of the path, longest prefix first."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._by_prefix = {route.prefix: route for route in routes}
        self._longest = max((len(route.prefix) for route in routes), default=0)

    def match(self, path: str) -> Route | None:
        by_prefix = self._by_prefix
        if len(by_prefix) == 1 and (only := by_prefix.get("/")) is not None:
            return only if path.startswith("/") else None
        candidate = path.rstrip("/") if len(path) <= self._longest else path[: self._longest + 1]
        while candidate:
            route = by_prefix.get(candidate)
            if route is not None and (len(path) == len(candidate) or path[len(candidate)] == "/"):
                return route
            candidate = candidate[: candidate.rfind("/")] if "/" in candidate else ""
        return by_prefix.get("/") if path.startswith("/") else None


decode_table = msgspec.msgpack.Decoder(RoutingTable).decode
encode_table = msgspec.msgpack.Encoder().encode
