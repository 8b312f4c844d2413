"""Every kind of request against one instance: the series at /metrics have moved by the right amounts."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from fastapi import FastAPI, WebSocket
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from tests.docs.board_expressions import expressions, names
from tests.ports import free_port
from tests.protos import echo_pb2, echo_pb2_grpc
from tests.waiting import wait_until
from websockets.sync.client import connect

from eagleray import serve
from eagleray.admin.metrics_port import URL_FILE
from eagleray.base.errors import BackPressureError
from eagleray.proxy.metrics import node_labels
from eagleray.serve.metrics import Counter

DEADLINE_S = 60.0
SERVICER = "echo_pb2_grpc:add_EchoServicer_to_server"

api = FastAPI()


@serve.deployment
@serve.ingress(api)
class Api:
    @api.get("/users/{name}")
    async def user(self, name: str) -> str:
        return name

    @api.websocket("/talk")
    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())


@serve.deployment
class Child:
    def __init__(self) -> None:
        self.seen = Counter("words_seen", "Words.", tag_keys=("length", "route"))

    async def __call__(self, word: str) -> str:
        self.seen.inc(tags={"length": str(len(word))})
        return word.upper()

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=DEADLINE_S)
    async def batched(self, words: list[str]) -> list[str]:
        return words

    @serve.multiplexed(max_num_models_per_replica=2)
    async def model(self, model_id: str) -> str:
        return model_id

    async def predict(self) -> str:
        found: str = await self.model(serve.get_multiplexed_model_id())
        return found

    async def fail(self) -> None:
        raise LookupError("x")


@serve.deployment
class Front:
    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, request: Request) -> str:
        match request.url.path:
            case "/main/raise":
                raise KeyError("x")
            case "/main/wait":
                await asyncio.Event().wait()
            case "/main/child":
                word: str = await self.child.remote("word")
                return word
        return "ok"

    async def Say(self, request: Any) -> Any:
        if request.text == "raise":
            raise ValueError("x")
        return echo_pb2.Note(text="said")


class Instance:
    """Ports and the text of /metrics."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.http = free_port()
        self.grpc = free_port()

    def get(self, path: str, **headers: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def series(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Name of a sample without `ray_` -> (labels, value)."""
        (url,) = self.home.glob(f"run/*/{URL_FILE}")
        with urllib.request.urlopen(url.read_text().strip(), timeout=DEADLINE_S) as reply:
            text = reply.read().decode()
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removeprefix("ray_")
                found.setdefault(name, []).append((sample.labels, sample.value))
        return found

    def expect(
        self, expected: dict[str, Any], where: dict[str, str] | None = None, **labels: tuple[str, ...]
    ) -> None:
        """Waits until these series, and no others among those `where`, have these values.

        Name -> values of `labels[name]` -> value, or the sum of them all.
        """
        chosen = (where or {}).items()
        wrong: dict[str, Any] = {}

        def holds() -> bool:
            series = self.series()
            wrong.clear()
            for name, wanted in expected.items():
                found: dict[tuple[str, ...], float] = {}
                for tags, value in series.get(name, []):
                    if chosen <= tags.items():
                        key = tuple(tags.get(label, "") for label in labels.get(name, ()))
                        found[key] = found.get(key, 0.0) + value
                if found != (wanted if name in labels else {(): wanted}):
                    wrong[name] = found, wanted
            return not wrong

        try:
            wait_until(holds, "all series", deadline_s=DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(f"found, wanted: {wrong}") from error


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    home = Path(tempfile.mkdtemp(prefix="er-"))  # sockets want short paths
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
        patch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
        patch.setenv("EAGLERAY_METRICS_EXPORT_PORT", "0")
        instance = Instance(home)
        serve.start(
            http_options={"port": instance.http},
            grpc_options={"port": instance.grpc, "grpc_servicer_functions": [SERVICER]},
        )
        try:
            wait_until(lambda: list(home.glob(f"run/*/{URL_FILE}")), "a port for metrics", DEADLINE_S)
            yield instance
        finally:
            serve.shutdown()
            shutil.rmtree(home)


def test_requests_over_http(instance: Instance) -> None:
    serve.run(Front.bind(Child.bind()), name="main", route_prefix="/main")
    assert instance.get("/main/ok") == instance.get("/main/ok") == 200
    assert instance.get("/main/child") == 200
    assert instance.get("/main/raise") == 500
    assert instance.get("/main/wait", **{"x-request-timeout-seconds": "0.3"}) == 408
    assert instance.get("/nowhere") == 404
    assert instance.get("/-/healthz") == 200
    with socket.create_connection(("127.0.0.1", instance.http)) as client:
        client.sendall(b"GET /main/wait HTTP/1.1\r\nhost: x\r\n\r\n")
        ongoing = "serve_num_ongoing_http_requests"
        gauge = {ongoing: ("node_id", "node_ip_address")}
        instance.expect({ongoing: {node_labels(): 1.0}}, **gauge)
        processing = "serve_replica_processing_queries"
        instance.expect({processing: {("Front",): 1.0, ("Child",): 0.0}}, **{processing: ("deployment",)})
    instance.expect({ongoing: {node_labels(): 0.0}}, **gauge)
    route, status = ("method", "route", "application", "status_code"), ("route", "error_code", "application")
    finished = {
        ("GET", "/main", "main", "200"): 3.0,
        ("GET", "/main", "main", "500"): 1.0,
        ("GET", "/main", "main", "408"): 1.0,
        ("GET", "/main", "main", "499"): 1.0,
        ("GET", "", "", "404"): 1.0,
        ("GET", "/-/healthz", "", "200"): 1.0,
    }
    errors = {(path, code, app): value for (_, path, app, code), value in finished.items() if code != "200"}
    failed = {("Front", code, "/main"): 1.0 for code in ("500", "408", "499")}
    instance.expect(
        {
            "serve_num_http_requests_total": finished,
            "serve_http_request_latency_ms_count": finished,
            "serve_num_http_error_requests_total": errors,
            "serve_num_deployment_http_error_requests_total": failed,
            "serve_deployment_request_counter_total": {
                ("main", "Front", "/main"): 6.0,
                ("main", "Child", "/main"): 1.0,
            },
            "serve_deployment_processing_latency_ms_count": {
                ("main", "Front", "/main"): 6.0,
                ("main", "Child", "/main"): 1.0,
            },
            "serve_deployment_error_counter_total": {("Front", "/main", "KeyError"): 1.0},
            "eagleray_replica_cancelled_requests_total": {("Front", "/main"): 2.0},
            "eagleray_cancelled_requests_total": {("Front", "timeout"): 1.0, ("Front", "cancelled"): 1.0},
            "serve_num_router_requests_total": {
                ("Front", "/main", "PROXY"): 6.0,
                ("Child", "/main", "REPLICA"): 1.0,
            },
            "serve_handle_request_counter_total": {
                ("Front", "/main", "PROXY"): 6.0,
                ("Child", "/main", "REPLICA"): 1.0,
            },
            "words_seen_total": {("main", "Child", "4", "/main"): 1.0},
        },
        serve_num_http_requests_total=route,
        serve_http_request_latency_ms_count=route,
        serve_num_http_error_requests_total=status,
        serve_num_deployment_http_error_requests_total=("deployment", "error_code", "route"),
        serve_deployment_request_counter_total=("application", "deployment", "route"),
        serve_deployment_processing_latency_ms_count=("application", "deployment", "route"),
        serve_deployment_error_counter_total=("deployment", "route", "exception_type"),
        eagleray_replica_cancelled_requests_total=("deployment", "route"),
        eagleray_cancelled_requests_total=("deployment", "reason"),
        serve_num_router_requests_total=("deployment", "route", "handle"),
        serve_handle_request_counter_total=("deployment", "route", "handle"),
        words_seen_total=("application", "deployment", "length", "route"),
    )
    check_hops(instance)


def check_hops(instance: Instance) -> None:
    """Those of a handful of calls are all measured; the replica's time is within that of the proxy."""
    series = instance.series()
    hops = {
        labels["hop"]: value
        for labels, value in series["eagleray_request_hop_ms_count"]
        if labels["deployment"] == "Front"
    }
    assert hops["queue"] == hops["route"] == hops["execute"] == hops["network"] > 0
    waits = [
        value
        for labels, value in series["serve_request_router_fulfillment_time_ms_count"]
        if labels["application"] == "main"
    ]
    assert sum(waits) == 7.0


def test_calls_by_handles(instance: Instance) -> None:
    handle = serve.run(Child.bind(), name="handles", route_prefix=None)
    assert handle.remote("abc").result(timeout_s=DEADLINE_S) == "ABC"
    with pytest.raises(LookupError):
        handle.fail.remote().result(timeout_s=DEADLINE_S)
    for response in [handle.batched.remote(word) for word in ("a", "b")]:
        response.result(timeout_s=DEADLINE_S)
    for model in ("m", "n", "n"):
        handle.options(multiplexed_model_id=model).predict.remote().result(timeout_s=DEADLINE_S)
    composed = handle.remote(handle.remote("x"))
    assert composed.result(timeout_s=DEADLINE_S) == "X"
    instance.expect(
        {
            "serve_deployment_request_counter_total": 9.0,
            "serve_num_router_requests_total": 9.0,
            "serve_handle_request_counter_total": 9.0,
            "serve_router_args_resolution_latency_ms_count": 1.0,
            "serve_deployment_error_counter_total": {("Child", "LookupError"): 1.0},
            "serve_batches_processed_total": {("batched",): 1.0},
            "serve_batch_wait_time_ms_count": {("batched",): 1.0},
            "serve_batch_execution_time_ms_count": 1.0,
            "serve_actual_batch_size_sum": 2.0,
            "serve_batch_utilization_percent_sum": 100.0,
            "serve_batch_queue_length": 0.0,
            "serve_multiplexed_get_model_requests_counter_total": 3.0,
            "serve_multiplexed_models_load_counter_total": 2.0,
            "serve_multiplexed_model_load_latency_ms_count": 2.0,
            "serve_num_multiplexed_models": 2.0,
            "serve_registered_multiplexed_model_id": {("m",): 1.0, ("n",): 1.0},
            "eagleray_multiplexed_model_hits_total": 1.0,
            "eagleray_multiplexed_model_misses_total": 2.0,
            "serve_deployment_replica_starts_total": 1.0,
        },
        {"application": "handles"},
        serve_deployment_error_counter_total=("deployment", "exception_type"),
        serve_batches_processed_total=("function_name",),
        serve_batch_wait_time_ms_count=("function_name",),
        serve_registered_multiplexed_model_id=("model_id",),
    )


def test_calls_that_wait_and_calls_that_are_one_too_many(instance: Instance) -> None:
    @serve.deployment(max_ongoing_requests=1, max_queued_requests=1, graceful_shutdown_timeout_s=0.2)
    class Narrow:
        async def __call__(self) -> None:
            await asyncio.Event().wait()

    handle = serve.run(Narrow.bind(), name="narrow", route_prefix=None)
    queued, ongoing = "serve_deployment_queued_queries", "serve_num_ongoing_requests_at_replicas"
    narrow = {"application": "narrow"}
    running = handle.remote()
    instance.expect({queued: 0.0, ongoing: 1.0}, narrow)
    waiting = handle.remote()
    instance.expect({queued: 1.0, ongoing: 1.0}, narrow)
    with pytest.raises(BackPressureError):
        handle.remote().result(timeout_s=DEADLINE_S)
    waiting.cancel()
    running.cancel()
    shed, cancelled = "eagleray_shed_requests_total", "eagleray_cancelled_requests_total"
    instance.expect(
        {queued: 0.0, ongoing: 0.0, shed: {("backpressure",): 1.0}, cancelled: {("cancelled",): 2.0}},
        narrow,
        **{shed: ("reason",), cancelled: ("reason",)},
    )


def test_patterns_of_fastapi_and_websockets(instance: Instance) -> None:
    serve.run(Api.bind(), name="api", route_prefix="/api")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(instance.get, [f"/api/users/{number}" for number in range(4)])) == [200] * 4
    assert instance.get("/api/elsewhere") == 404
    with connect(f"ws://127.0.0.1:{instance.http}/api/talk") as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=DEADLINE_S) == "hello"
    wanted = {
        ("GET", "/api/users/{name}", "200"): 4.0,
        ("GET", "/api", "404"): 1.0,
        ("WS", "/api/talk", "1000"): 1.0,
    }

    name = "serve_num_http_requests_total"
    tags = {name: ("method", "route", "status_code")}
    instance.expect({name: wanted}, {"application": "api"}, **tags)


def test_rpcs(instance: Instance) -> None:
    def say(text: str, application: str = "main") -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{instance.grpc}") as channel:
            try:
                echo_pb2_grpc.EchoStub(channel).Say(
                    echo_pb2.Note(text=text), metadata=[("application", application)], timeout=DEADLINE_S
                )
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    assert say("a") == say("b") == grpc.StatusCode.OK
    assert say("raise") == grpc.StatusCode.INTERNAL
    assert say("a", "nobody") == grpc.StatusCode.NOT_FOUND
    labels = ("route", "application", "status_code")
    wanted = {
        ("main", "main", "StatusCode.OK"): 2.0,
        ("main", "main", "StatusCode.INTERNAL"): 1.0,
        ("", "", "StatusCode.NOT_FOUND"): 1.0,
    }
    instance.expect(
        {
            "serve_num_grpc_requests_total": wanted,
            "serve_grpc_request_latency_ms_count": wanted,
            "serve_num_grpc_error_requests_total": {
                ("main", "StatusCode.INTERNAL"): 1.0,
                ("", "StatusCode.NOT_FOUND"): 1.0,
            },
            "serve_num_deployment_grpc_error_requests_total": {("Front", "StatusCode.INTERNAL"): 1.0},
            "serve_num_ongoing_grpc_requests": {node_labels(): 0.0},
        },
        serve_num_grpc_requests_total=labels,
        serve_grpc_request_latency_ms_count=labels,
        serve_num_grpc_error_requests_total=("application", "error_code"),
        serve_num_deployment_grpc_error_requests_total=("deployment", "error_code"),
        serve_num_ongoing_grpc_requests=("node_id", "node_ip_address"),
    )


def test_the_board_finds_its_series(instance: Instance) -> None:
    """After all that: but for those of what has not happened here."""
    known = {f"ray_{name}" if name.startswith("serve_") else name for name in instance.series()}
    missing = {name for one in expressions() for name in names(one)} - known
    assert missing == {
        "eagleray_lost_requests_total",
        "eagleray_metrics_folded_total",
        "ray_serve_autoscaling_desired_replicas",
        "ray_serve_autoscaling_target_replicas",
    }
