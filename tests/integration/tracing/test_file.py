"""What a traced instance writes into its files of spans, and what becomes of the headers of its clients."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tracing import app
from tests.ports import free_port
from tests.waiting import wait_until
from websockets.asyncio.client import connect

from eagleray import serve
from eagleray.serve import instance

PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    serve.start(http_options={"port": port}, tracing_config={"enabled": True})
    serve.run(app.build(), name="app", route_prefix="/app")
    yield port
    serve.shutdown()


def spans_of(trace: str) -> list[dict[str, Any]]:
    running = instance.running()
    assert running is not None and running._node is not None
    files = Path(running._node.logs_dir, "spans").glob("*_tracing.json")
    found = [json.loads(line) for path in sorted(files) for line in path.read_text().splitlines()]
    return [one for one in found if one["context"]["trace_id"] == f"0x{trace}"]


def name_of(span: dict[str, Any]) -> str:
    return f"{span['name']} {span['attributes'].get('deployment', '')}".strip()


def wait_for(trace: str, *names: str) -> list[dict[str, Any]]:
    """The spans of a trace, once it has those; the proxy's is told last or not, each process tells its own."""
    wait_until(lambda: set(names) <= {name_of(one) for one in spans_of(trace)}, f"{names} in {trace}")
    return spans_of(trace)


def get(port: int, path: str, **headers: str) -> tuple[bytes, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/app{path}", headers=names)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read(), reply.headers


def parents_of(spans: list[dict[str, Any]]) -> dict[str, str]:
    """Name of each span of ours -> that of the next one above it, or its parent's id where there is none.

    FastAPI, too, makes spans where OpenTelemetry is installed.
    """
    known = {one["context"]["span_id"]: one for one in spans}

    def above(span: dict[str, Any]) -> str:
        parent = known.get(span["parent_id"])
        return (
            str(span["parent_id"])
            if parent is None
            else name_of(parent)
            if is_ours(parent)
            else above(parent)
        )

    return {name_of(one): above(one) for one in spans if is_ours(one)}


def is_ours(span: dict[str, Any]) -> bool:
    return name_of(span) in (*DOOR, *CHILD, *LEAF, "work")


DOOR = "proxy_http_request", "route_to_replica Door", "replica_handle_request Door"
CHILD = "route_to_replica Child", "replica_handle_request Child"
LEAF = "batch", "route_to_replica Leaf", "replica_handle_request Leaf"


def test_a_request_is_one_trace_from_the_proxy_to_the_last_child(port: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4701"
    headers = {"traceparent": f"00-{trace}-{PARENT}-01", "x_request_id": "id-1"}
    assert get(port, "/pair", **headers)[0] == b"[2,3]"
    spans = wait_for(trace, *DOOR, *CHILD, *LEAF)
    assert parents_of(spans) == {
        "proxy_http_request": f"0x{PARENT}",
        "route_to_replica Door": "proxy_http_request",
        "replica_handle_request Door": "route_to_replica Door",
        "route_to_replica Child": "replica_handle_request Door",
        "replica_handle_request Child": "route_to_replica Child",
        "batch": "replica_handle_request Child",
        "route_to_replica Leaf": "batch",
        "replica_handle_request Leaf": "route_to_replica Leaf",
    }
    root = next(one for one in spans if one["name"] == "proxy_http_request")
    assert root["attributes"] == {
        "request_id": "id-1",
        "application": "app",
        "route": "/app/pair",
        "method": "GET",
        "status": 200,
    }
    handled = {one["context"]["span_id"] for one in spans if name_of(one) == CHILD[1]}
    batch = next(one for one in spans if one["name"] == "batch")
    linked = {link["context"]["span_id"] for link in batch["links"]}
    assert batch["attributes"]["batch_size"] == 2
    assert linked | {batch["parent_id"]} == handled and len(linked) == 1


def test_spans_of_the_user_stand_between_ours(port: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4702"
    assert get(port, "/own", traceparent=f"00-{trace}-{PARENT}-01")[0] == b"3"
    found = parents_of(wait_for(trace, *DOOR, *CHILD, "work"))
    assert found["work"] == "replica_handle_request Door"
    assert found["route_to_replica Child"] == "work"


def test_sync_methods_and_websockets_have_a_context(port: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4703"
    assert get(port, "/sync", traceparent=f"00-{trace}-{PARENT}-01")[0] == b"true"
    wait_for(trace, *DOOR)
    trace = "4bf92f3577b34da6a3ce929d0e0e4704"

    async def talk() -> str:
        headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
        async with connect(f"ws://127.0.0.1:{port}/app/ws", additional_headers=headers) as websocket:
            return str(await websocket.recv())

    assert asyncio.run(talk()) == "True"
    root = next(one for one in wait_for(trace, *DOOR) if one["name"] == "proxy_http_request")
    assert (root["attributes"]["method"], root["attributes"]["status"]) == ("GET", 1000)


def test_failures_are_marked(port: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4705"
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(port, "/add/-1", traceparent=f"00-{trace}-{PARENT}-01")
    raised.value.close()
    spans = wait_for(trace, *DOOR, *CHILD)
    assert {one["status"]["status_code"] for one in spans if is_ours(one)} == {"ERROR"}
    child = next(one for one in spans if name_of(one) == CHILD[1])
    assert child["attributes"]["error.type"] == "ValueError"
    assert "negative" not in json.dumps([one for one in spans if is_ours(one)])


def test_a_client_that_goes_away_leaves_a_whole_trace_without_an_error(port: int, tmp_path: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4708"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        mark = tmp_path / "mark"
        head = f"GET /app/wait?mark={mark} HTTP/1.1\r\nhost: x\r\ntraceparent: 00-{trace}-{PARENT}-01\r\n\r\n"
        client.sendall(head.encode())
        wait_until(mark.exists, "the child waits")
    spans = wait_for(trace, *DOOR, *CHILD)
    statuses = {name_of(one): one["attributes"].get("status") for one in spans if is_ours(one)}
    assert statuses["proxy_http_request"] == 499
    assert statuses["replica_handle_request Child"] == "CANCELLED"
    replicas = [one for one in spans if one["name"] == "replica_handle_request"]
    assert {one["status"]["status_code"] for one in replicas} == {"UNSET"}


def test_who_is_not_sampled_is_not_recorded(port: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4706"
    assert get(port, "/own", traceparent=f"00-{trace}-{PARENT}-00")[0] == b"3"
    marker = "4bf92f3577b34da6a3ce929d0e0e4707"
    assert get(port, "/own", traceparent=f"00-{marker}-{PARENT}-01")[0] == b"3"
    wait_for(marker, *DOOR, *CHILD)
    assert spans_of(trace) == []


def test_an_answer_says_where_its_time_went_when_asked(port: int) -> None:
    assert "server-timing" not in get(port, "/sync")[1]
    timing = get(port, "/sync", x_eagleray_timing="1")[1]["server-timing"]
    hops = dict(part.split(";dur=") for part in timing.split(", "))
    assert list(hops) == ["route", "queue", "execute", "network", "total"]
    assert all(float(value) >= 0 for value in hops.values())
