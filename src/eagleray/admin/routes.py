"""The table of routes: paths and methods of Ray Serve's REST API, who may use them, and how a path is matched.

The table is the only place that knows a path: server, tests and the OpenAPI document read it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from eagleray.admin.tokens import Role

Action = Literal[
    "get_details", "put_config", "shutdown", "get_application", "put_application", "delete_application", "scale",
    "get_version", "get_openapi", "get_metrics", "get_history", "get_events", "get_overview",
]  # fmt: skip

Body = Literal["none", "json", "config"]
"""What a route wants to be sent; a config may be YAML as well."""


@dataclass(frozen=True)
class Route:
    """One method of one path; `{name}` is a variable segment. A trailing slash may be left out or added."""

    method: str
    path: str
    action: Action
    role: Role
    body: Body
    summary: str
    query: tuple[tuple[str, str], ...] = ()
    """(name, type in OpenAPI) of the parameters behind the `?`, none of which has to be there."""


_ALL, _ONE = "/api/serve/applications/", "/api/serve/applications/{name}"
_HISTORY_QUERY = (
    ("application", "string"),
    ("deployment", "string"),
    ("from", "number"),
    ("to", "number"),
    ("step", "integer"),
)
_EVENTS_QUERY = (("since", "integer"), ("application", "string"), ("limit", "integer"))
_SCALE = "/api/v1/applications/{app}/deployments/{deployment}/scale"

ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, "get_details", Role.READ, "none", "All applications in detail."),
    Route("PUT", _ALL, "put_config", Role.ADMIN, "config", "Makes a config what is wanted."),
    Route("DELETE", _ALL, "shutdown", Role.ADMIN, "none", "Ends the instance with all applications."),
    Route("GET", _ONE, "get_application", Role.READ, "none", "One application in detail."),
    Route("PUT", _ONE, "put_application", Role.ADMIN, "config", "Deploys one application; others stay."),
    Route("DELETE", _ONE, "delete_application", Role.ADMIN, "none", "Deletes one application."),
    Route("POST", _SCALE, "scale", Role.ADMIN, "json", "Sets a deployment's number of replicas."),
    Route("GET", "/api/ray/version", "get_version", Role.READ, "none", "Versions of the server."),
    Route("GET", "/metrics", "get_metrics", Role.READ, "none", "Metrics of the instance for Prometheus."),
    Route(
        "GET",
        "/api/v1/history",
        "get_history",
        Role.READ,
        "none",
        "Rates, latencies and loads of the last day.",
        _HISTORY_QUERY,
    ),
    Route(
        "GET",
        "/api/v1/events",
        "get_events",
        Role.READ,
        "none",
        "The last thousand changes, with their causes.",
        _EVENTS_QUERY,
    ),
    Route("GET", "/api/v1/overview", "get_overview", Role.READ, "none", "What runs, how loaded, how fast."),
    Route("GET", "/api/serve/openapi.json", "get_openapi", Role.READ, "none", "This API as OpenAPI."),
)


@dataclass(frozen=True)
class Match:
    """A route for a path, and the values of its variables."""

    route: Route
    variables: dict[str, str]


def find(method: str, raw_path: bytes, routes: Sequence[Route] = ROUTES) -> Match | list[str]:
    """The match; else the methods that the path has, none for a path that is not there. HEAD is GET."""
    segments = _segments(raw_path.decode("ascii"))
    allowed = []
    for route in routes:
        variables = _variables(_segments(route.path), segments)
        if variables is None:
            continue
        if method == route.method or (method == "HEAD" and route.method == "GET"):
            return Match(route, {name: unquote(value) for name, value in variables.items()})
        allowed.append(route.method)
    return allowed


def _segments(path: str) -> list[str]:
    return path.removeprefix("/").removesuffix("/").split("/")


def _variables(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    """None when the path is another one."""
    if len(pattern) != len(segments):
        return None
    variables = {}
    for wanted, given in zip(pattern, segments, strict=True):
        if wanted.startswith("{") and given:
            variables[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return variables


def openapi(version: str) -> dict[str, Any]:
    """The table as an OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        operation: dict[str, Any] = {
            "operationId": route.action,
            "summary": route.summary,
            "description": f"Needs a token of the role '{route.role.name.lower()}'.",
            "parameters": [
                {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
                for segment in _segments(route.path)
                if segment.startswith("{")
            ]
            + [
                {"name": name, "in": "query", "required": False, "schema": {"type": kind}}
                for name, kind in route.query
            ],
            "responses": {"200": {"description": "Done, or accepted where it takes a while."}},
        }
        if route.body != "none":
            kinds = ["application/json"] + (["application/yaml"] if route.body == "config" else [])
            content = {kind: {"schema": {"type": "object"}} for kind in kinds}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Eagleray admin API", "version": version},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
        "paths": paths,
    }
