"""What replicas and proxies of a real instance write, in both formats."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.responses import StreamingResponse
from tests.ports import free_port
from tests.waiting import wait_until
from websockets.asyncio.client import connect

from eagleray import serve
from eagleray.serve import instance

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

api = FastAPI()
items = APIRouter(prefix="/items")
logger = logging.getLogger("ray.serve")


@serve.deployment
class Child:
    async def __call__(self, what: str) -> str:
        if what == "wrong":
            raise ValueError("it is wrong")
        logger.warning("the child was asked for %s", what, extra={"what": what})
        return what

    async def count(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def wait(self) -> None:
        await asyncio.Event().wait()


@serve.deployment
@serve.ingress(api)
class Door:
    def __init__(self, child: Any) -> None:
        self.child = child

    @items.get("/{item}")
    async def read(self, item: str) -> str:
        return str(await self.child.remote(item))

    @api.get("/stream")
    async def stream(self) -> StreamingResponse:
        return StreamingResponse(str(n) async for n in self.child.options(stream=True).count.remote())

    @api.websocket("/ws")
    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close(1000)


api.include_router(items)


@serve.deployment(logging_config={"encoding": "JSON", "additional_log_standard_attrs": ["name"]})
class Plain:
    async def __call__(self, request: Any) -> str:
        logger.info("reading", extra={"step": 3})
        print("printed")
        if request.query_params.get("fail"):
            raise RuntimeError("as asked")
        return "ok"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    serve.start(http_options={"port": port}, logging_config={"enable_access_log": True})
    serve.run(Door.bind(Child.bind()), name="text", route_prefix="/text")
    serve.run(Plain.bind(), name="json", route_prefix="/json")
    yield port
    serve.shutdown()


def home() -> Path:
    running = instance.running()
    assert running is not None and running._node is not None
    return Path(running._node.logs_dir)


def text_of(pattern: str, folder: Path | None = None) -> str:
    return "".join(path.read_text() for path in sorted((folder or home()).glob(pattern)))


def wait_for(pattern: str, *wanted: str, folder: Path | None = None) -> str:
    wait_until(lambda: all(one in text_of(pattern, folder) for one in wanted), f"{wanted} in {pattern}")
    return text_of(pattern, folder)


def get(port: int, path: str, request_id: str) -> int:
    headers = {"x-request-id": request_id, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=30
        ) as reply:
            reply.read()
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_each_hop_of_a_request_has_a_line_with_its_id(port: int) -> None:
    assert get(port, "/text/items/x", "id-1") == 200
    assert get(port, "/text/items/wrong", "id-2") == 500
    assert get(port, "/text/stream", "id-3") == 200
    assert get(port, "/text/none", "id-4") == 404
    door = wait_for("replica_text_Door_*", "id-4")
    assert " text_Door " in door and "id-1 -- GET /text/items/{item} 200 " in door
    assert "id-2 -- GET /text/items/{item} 500 " in door and "id-3 -- GET /text/stream 200 " in door
    assert "id-4 -- GET /text 404 " in door
    child = wait_for("replica_text_Child_*", "CALL count OK")
    assert "id-1 -- the child was asked for x" in child and "id-1 -- CALL __call__ OK " in child
    assert "id-2 -- CALL __call__ ERROR " in child and "id-3 -- CALL count OK " in child
    proxy = wait_for("proxy_*", "id-4 -- GET")
    assert "id-1 -- GET /text/items/{item} 200 " in proxy and "id-2 -- GET /text/items/{item} 500 " in proxy


def test_a_cancelled_call_and_a_websocket(port: int) -> None:
    response = serve.get_deployment_handle("Child", "text").wait.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.2)
    response.cancel()
    wait_for("replica_text_Child_*", "-- CALL wait CANCELLED ")

    async def talk() -> None:
        async with connect(f"ws://127.0.0.1:{port}/text/ws") as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            await websocket.wait_closed()

    asyncio.run(talk())
    wait_for("replica_text_Door_*", "-- WS /text 1000 ")


def test_json_lines(port: int) -> None:
    assert get(port, "/json?secret=hunter2", "id-5") == 200
    assert get(port, "/json?fail=1", "id-6") == 500
    text = wait_for("replica_json_*", '"status":500', "printed")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    reading, done, failed = (
        next(one for one in lines if one["request_id"] == request_id and wanted in one["message"])
        for request_id, wanted in (("id-5", "reading"), ("id-5", "GET /json 200"), ("id-6", "has failed"))
    )
    assert reading["step"] == 3 and reading["name"] == "ray.serve" and reading["filename"] == "test_logs.py"
    for line in (reading, done, failed):
        assert line["component_name"] == "replica" and line["deployment"] == "json_Plain"
        assert line["application"] == "json" and line["route"] == "/json" and line["replica"]
        assert line["trace_id"] == TRACE
    assert "RuntimeError: as asked" in failed["exc_text"] and failed["levelname"] == "ERROR"
    assert (done["method"], done["status"]) == ("GET", 200) and done["latency_ms"] > 0
    assert "hunter2" not in text + text_of("proxy_*")


def test_the_next_version_may_log_elsewhere_and_otherwise(port: int, tmp_path: Path) -> None:
    def deploy(**config: Any) -> None:
        serve.run(Quiet.options(logging_config=config).bind(), name="quiet", route_prefix="/quiet")

    @serve.deployment
    class Quiet:
        def __call__(self, request: Any) -> str:
            logger.info("asked")
            return "ok"

    deploy(enable_access_log=False)
    assert get(port, "/quiet", "id-7") == 200
    wait_for("replica_quiet_*", "id-7 -- asked")
    deploy(logs_dir=str(tmp_path / "elsewhere"), encoding="JSON")
    assert get(port, "/quiet", "id-8") == 200
    there = wait_for("replica_quiet_*", "GET /quiet 200", folder=tmp_path / "elsewhere")
    assert '"request_id":"id-8"' in there and "GET /quiet" not in text_of("replica_quiet_*.log")
    (link,) = home().glob("replica_quiet_*.link")
    assert link.resolve().parent == tmp_path / "elsewhere"
