"""Spans at an OpenTelemetry collector: this process listens as one, over OTLP's HTTP, and reads what it is sent."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.integration.grpc_proxy.app import Echo
from tests.integration.tracing import app
from tests.ports import free_port
from tests.protos import echo_pb2, echo_pb2_grpc
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve import instance

PARENT = "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent, as (service, span). While it is `broken` it takes none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.broken = False

    def of(self, trace: str) -> list[tuple[str, Any]]:
        return [(service, span) for service, span in list(self.spans) if span.trace_id.hex() == trace]


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.broken or self.path != "/v1/traces":
            self.send_response(400)
            self.end_headers()
            return
        self.server.headers.append(dict(self.headers))
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in one.resource.attributes}
            spans = [span for scope in one.scope_spans for span in scope.spans]
            self.server.spans += [(names["service.name"], span) for span in spans]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        thread = threading.Thread(target=found.serve_forever, name="collector")
        thread.start()
        yield found
        found.shutdown()
        thread.join(30)


@pytest.fixture(scope="module")
def ports(collector: Collector) -> Iterator[tuple[int, int]]:
    """Of HTTP and of gRPC."""
    http, rpc = free_port(), free_port()
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=eagle",
        "EAGLERAY_TRACING_EXPORTER": "otlp",
    }
    os.environ.update(told)
    try:
        servicers = ["echo_pb2_grpc:add_EchoServicer_to_server"]
        serve.start(
            http_options={"port": http},
            grpc_options={"port": rpc, "grpc_servicer_functions": servicers},
            tracing_config={"sampling_ratio": 0.0},
        )
        serve.run(app.build(), name="app", route_prefix="/app")
        serve.run(Echo.bind(os.devnull), name="echo", route_prefix="/echo")
        yield http, rpc
        serve.shutdown()
    finally:
        for name in told:
            del os.environ[name]


def get(port: int, path: str, **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=names)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return bytes(reply.read())


def wait_for(collector: Collector, trace: str, *names: str) -> dict[str, Any]:
    """Service and name -> span (the last of them), once those are there."""

    def found() -> dict[str, Any]:
        return {f"{service} {span.name}": span for service, span in collector.of(trace)}

    wait_until(lambda: set(names) <= set(found()), f"{names} of {trace}")
    return found()


def value_of(span: Any, key: str) -> Any:
    value = next(item.value for item in span.attributes if item.key == key)
    return getattr(value, value.WhichOneof("value"))


def test_a_collector_gets_the_whole_trace(ports: tuple[int, int], collector: Collector) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4701"
    state = "vendor=1,other=2"
    headers = {"traceparent": f"00-{trace}-{PARENT}-01", "tracestate": state, "x_request_id": "id-7"}
    assert get(ports[0], "/app/pair", **headers) == b"[2,3]"
    chain = (
        "proxy proxy_http_request",
        "proxy route_to_replica",
        "app_Door replica_handle_request",
        "app_Door route_to_replica",
        "app_Child replica_handle_request",
        "app_Child batch",
        "app_Child route_to_replica",
        "app_Leaf replica_handle_request",
    )
    found = wait_for(collector, trace, *chain)
    by_id = {span.span_id: span for _, span in collector.of(trace)}
    span = found[chain[-1]]
    above = []
    while span is not None:
        above.append(span.name)
        assert span.trace_state == state
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        root, span = span, by_id.get(span.parent_span_id)
    ours = [name.split()[1] for name in reversed(chain)]
    assert [name for name in above if name in ours] == ours
    assert root.parent_span_id.hex() == PARENT
    handled = {
        span.span_id for service, span in collector.of(trace) if service == "app_Child" and span.kind == 2
    }
    batch = found["app_Child batch"]
    assert {batch.parent_span_id, *(link.span_id for link in batch.links)} == handled and len(handled) == 2
    assert value_of(root, "request_id") == "id-7" and value_of(root, "status") == 200
    sent = [event.name for event in found["proxy route_to_replica"].events]
    assert sent == ["sent"] and value_of(found["proxy route_to_replica"], "replica")
    assert collector.headers[0]["x-tenant"] == "eagle"


def test_an_rpc_is_traced(ports: tuple[int, int], collector: Collector) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4702"
    metadata = [("application", "echo"), ("traceparent", f"00-{trace}-{PARENT}-01"), ("tracestate", "a=1")]
    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}") as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        stub.Say(echo_pb2.Note(text="x"), metadata=metadata, timeout=30)
        bad = [("application", "echo"), ("traceparent", f"00-{trace.upper()}-{PARENT}-01")]
        stub.Say(echo_pb2.Note(text="x"), metadata=bad, timeout=30)
    found = wait_for(collector, trace, "proxy proxy_grpc_request", "echo_Echo replica_handle_request")
    root = found["proxy proxy_grpc_request"]
    assert root.parent_span_id.hex() == PARENT and root.trace_state == "a=1"
    assert value_of(root, "status") == "OK" and value_of(root, "method").endswith("/Say")
    assert len([span for _, span in collector.of(trace) if span.name == root.name]) == 1


def metrics() -> str:
    running = instance.running()
    assert running is not None and running._node is not None
    directory = running._node.runtime_dir
    with open(f"{directory}/admin.url") as url, open(f"{directory}/readonly.token") as token:
        request = urllib.request.Request(
            f"{url.read().strip()}/metrics",
            headers={
                "authorization": f"Bearer {token.read().strip()}",
                "accept": "application/openmetrics-text",
            },
        )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(reply.read().decode())


def test_latencies_point_at_traces(ports: tuple[int, int]) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4703"
    get(ports[0], "/app/sync", traceparent=f"00-{trace}-{PARENT}-01")

    def pointing() -> set[str]:
        return {
            line.partition("_bucket")[0] for line in metrics().splitlines() if f'trace_id="{trace}"' in line
        }

    wanted = {"ray_serve_http_request_latency_ms", "ray_serve_deployment_processing_latency_ms"}
    wait_until(lambda: wanted <= pointing(), "exemplars of both histograms")


def test_a_collector_that_takes_nothing_costs_spans_only(
    ports: tuple[int, int], collector: Collector
) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4704"
    collector.broken = True
    try:
        assert get(ports[0], "/app/sync", traceparent=f"00-{trace}-{PARENT}-01") == b"true"
        lost = 'eagleray_trace_spans_total{result="failed"}'

        def count() -> float:
            return sum(
                float(line.split()[-1])
                for line in metrics().splitlines()
                if line.startswith("eagleray_trace_spans_total") and 'result="failed"' in line
            )

        wait_until(lambda: count() > 0, lost)
    finally:
        collector.broken = False
    assert collector.of(trace) == []


def test_nobody_is_sampled_who_did_not_ask(ports: tuple[int, int], collector: Collector) -> None:
    for header in ("00-zz", "", "00-" + "0" * 32 + f"-{PARENT}-01", f"ff-{'5' * 32}-{PARENT}-01"):
        assert get(ports[0], "/app/sync", traceparent=header) == b"true"
    marker = "5bf92f3577b34da6a3ce929d0e0e4705"
    assert json.loads(get(ports[0], "/app/sync", traceparent=f"00-{marker}-{PARENT}-01")) is True
    wait_for(collector, marker, "proxy proxy_http_request", "app_Door replica_handle_request")
    assert not [span for _, span in collector.spans if not span.parent_span_id]
