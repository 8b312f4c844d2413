"""What a proxy counts of the requests that it has answered, under Ray Serve's names.

A request costs one tuple and one look into a dictionary; labels are made once for each distinct set. What clients can
invent (methods) is folded, so that they cannot fill the registry. Belongs to the proxy's loop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from eagleray.base.clock import wall_time_s
from eagleray.base.metrics import OVERFLOW, Gathered, Registry, Value

NODE_LABELS = ("node_id", "node_ip_address")

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "WS"))
"""Methods of HTTP that are counted by name."""
_WEBSOCKET_OK = (1000, 1001)
_MOST_KNOWN = 4096
"""Label sets that are found without asking the registry: it bounds the series, this bounds the dictionary."""

Key = tuple[str, str, str, "int | str", str]
"""Method, route prefix, the application's own pattern below it, status, key of the ingress deployment."""


def node_labels() -> tuple[str, str]:
    """Values of `NODE_LABELS` for this machine."""
    return socket.gethostname(), "127.0.0.1"


class _Finished(Gathered):
    """The latencies of requests that ended alike, and the counters of those that are errors."""

    __slots__ = ("deployments", "errors", "is_open")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.deployments: set[str] = set()
        """Keys of the ingress deployments whose requests are counted here."""
        self.errors: tuple[Value, ...] | None = None
        self.is_open = False


class ProxyMetrics:
    """The series of one proxy, in `registry`. `protocol` is `http` or `grpc`; `ongoing` says what runs now."""

    def __init__(self, registry: Registry, protocol: str, ongoing: Callable[[], int]) -> None:
        name = {"http": "HTTP", "grpc": "gRPC"}[protocol]
        self.folds_methods = protocol == "http"
        self.is_error = _is_http_error if protocol == "http" else _is_grpc_error
        self.requests = registry.counter(
            f"serve_num_{protocol}_requests",
            f"{name} requests that the proxy has answered.",
            *("route", "method", "application", "status_code"),
        )
        self.errors = registry.counter(
            f"serve_num_{protocol}_error_requests",
            f"{name} requests that have ended with an error.",
            *("route", "error_code", "method", "application"),
        )
        self.ingress_errors = registry.counter(
            f"serve_num_deployment_{protocol}_error_requests",
            f"{name} requests that have ended with an error, by ingress deployment.",
            *("deployment", "error_code", "method", "route", "application"),
        )
        self.latency = registry.histogram(
            f"serve_{protocol}_request_latency_ms",
            f"Time from the first byte of a {name} request to the last of its answer, in milliseconds.",
            *("method", "route", "application", "status_code"),
        )
        self._refused = registry.counter(
            "eagleray_proxy_refused_requests",
            "What clients have sent that is no request, or one beyond the limits.",
            "status_code",
        )
        running = registry.gauge(
            f"serve_num_ongoing_{protocol}_requests", f"{name} requests in the proxy now.", *NODE_LABELS
        )
        running.read(ongoing, *node_labels())
        self._known: dict[Key, _Finished] = {}
        self._of: dict[str, set[tuple[str, str, str, str]]] = {}
        """Label values of `latency` by key of the ingress deployment."""

    def finished(self, key: Key, seconds: float) -> None:
        """A request was answered, `seconds` after it came."""
        series = self._known.get(key) or self._open(key)
        values = series.values
        values.append(seconds * 1000.0)
        if len(values) >= series.ENOUGH:
            series.settle()
        if series.errors is not None:
            for errors in series.errors:
                errors.value += 1.0

    def exemplify(self, key: Key, trace_id: str, took_ms: float) -> None:
        """A request that was counted under `key` is recorded in that trace."""
        series = self._known.get(key)
        if series is not None:
            series.exemplar = (trace_id, took_ms, wall_time_s())

    def refused(self, status: int) -> None:
        """There was no request that could be answered."""
        self._refused.value(str(status)).inc()

    def forget(self, deployment_key: str) -> None:
        """The deployment was deleted some time ago: what only its requests were counted on is not told any more."""
        app, _, deployment = deployment_key.partition("#")
        touched: set[_Finished] = set()
        for method, route, _, code in self._of.pop(deployment_key, ()):
            series = self.latency.distribution_as(_Finished, method, route, app, code)
            touched.add(series)
            series.deployments.discard(deployment_key)
            self.ingress_errors.forget(deployment, code, method, route, app)
            if series.deployments:  # the application has another ingress now
                series.is_open, series.errors = False, None
            else:
                self.latency.forget(method, route, app, code)
                self.requests.forget(route, method, app, code)
                self.errors.forget(route, code, method, app)
        self._known = {
            key: series
            for key, series in self._known.items()
            if key[4] != deployment_key and series not in touched
        }

    def _open(self, key: Key) -> _Finished:
        method, prefix, pattern, status, deployment_key = key
        is_known = not self.folds_methods or method in _METHODS
        if not is_known:
            method = OVERFLOW
        route = prefix.rstrip("/") + pattern if pattern else prefix
        app, _, deployment = deployment_key.partition("#")
        code = str(status)
        labels = method, route, app, code
        series = self.latency.distribution_as(_Finished, *labels)
        if labels in self.latency:
            series.deployments.add(deployment_key)
            self._of.setdefault(deployment_key, set()).add(labels)
        else:
            labels = (OVERFLOW,) * 4  # else the sum of those beyond would go with the first of them
        if not series.is_open:
            series.is_open = True
            self.requests.read(series.total, labels[1], labels[0], *labels[2:])
            if self.is_error(status):
                series.errors = (self.errors.value(route, code, method, app),)
                if deployment:
                    of_ingress = self.ingress_errors.value(deployment, code, method, route, app)
                    series.errors = (*series.errors, of_ingress)
        if is_known:  # what a client makes up is not remembered
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = series
        return series


def _is_http_error(status: int | str) -> bool:
    """Of an HTTP status, or the close code of a WebSocket."""
    return type(status) is int and status >= 400 and status not in _WEBSOCKET_OK


def _is_grpc_error(status: int | str) -> bool:
    return status != "StatusCode.OK"
