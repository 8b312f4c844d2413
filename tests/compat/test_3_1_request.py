"""Surface 3.1: what user code receives over HTTP; section 10 check 3."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from tests.compat.client import RawConnection
from tests.compat.impl import App, Instance, serve


@serve.deployment
class Mirror:
    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.body()
        return {
            "type": f"{type(request).__module__}.{type(request).__name__}",
            "method": request.method,
            "path": request.url.path,
            "query": dict(request.query_params),
            "header": request.headers.get("x-test"),
            "body": body.decode("latin-1"),
            "request_id": request.headers["x-request-id"],
            "client": request.client.host if request.client else None,
            "cookies": request.cookies,
            "version": request.scope["http_version"],
            "scheme": request.url.scheme,
        }


@pytest.fixture(scope="module")
def mirror(instance: Instance) -> App:
    return instance.run(Mirror.bind(), name="mirror")


def test_a_starlette_request_with_everything(mirror: App) -> None:
    headers = {"X-Test": "yes", "cookie": "a=1; b=2"}
    found = mirror.http("POST", "/some/path?a=1&b=%20x", headers=headers, body=b"\x00\xffdata").json()
    assert found["type"] == "starlette.requests.Request"
    assert found["method"] == "POST"
    assert found["path"] == "/mirror/some/path"
    assert found["query"] == {"a": "1", "b": " x"}
    assert found["header"] == "yes"
    assert found["body"] == "\x00\xffdata"
    assert found["request_id"]
    assert found["client"] == "127.0.0.1"
    assert found["cookies"] == {"a": "1", "b": "2"}
    assert (found["version"], found["scheme"]) == ("1.1", "http")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_all_methods_are_forwarded(mirror: App, method: str) -> None:
    assert mirror.http(method).json()["method"] == method


def test_head_has_no_body(mirror: App) -> None:
    reply = mirror.http("HEAD")
    assert (reply.status, reply.body) == (200, b"")


def test_paths_are_decoded(mirror: App) -> None:
    assert mirror.get("/a%20b/%C3%A9").json()["path"] in ("/mirror/a%20b/%C3%A9", "/mirror/a b/é")


def test_a_callable_without_parameters_gets_none(instance: Instance) -> None:
    @serve.deployment
    class NoParameter:
        def __call__(self) -> str:
            return "class"

    @serve.deployment
    def no_parameter() -> str:
        return "function"

    assert instance.run(NoParameter.bind()).get().text == "class"
    assert instance.run(no_parameter.bind()).get().text == "function"


def test_functions_sync_and_async(instance: Instance) -> None:
    @serve.deployment
    def sync(request: Request) -> str:
        return request.query_params["q"]

    @serve.deployment
    async def asynchronous(request: Request) -> str:
        return (await request.body()).decode()

    assert instance.run(sync.bind()).get("?q=quick").text == "quick"
    assert instance.run(asynchronous.bind()).http("POST", body=b"body").text == "body"


def test_a_body_can_be_streamed_in(instance: Instance) -> None:
    @serve.deployment
    class Count:
        async def __call__(self, request: Request) -> int:
            total = 0
            async for chunk in request.stream():
                total += len(chunk)
            return total

    app = instance.run(Count.bind())
    assert app.http("POST", body=b"x" * 3_000_000).json() == 3_000_000
    with RawConnection(instance.port) as raw:
        raw.send(f"POST {app.prefix} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n".encode())
        raw.send(b"connection: close\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")
        assert b"\r\n8" in raw.read_to_end()


def test_two_requests_on_one_connection(mirror: App, instance: Instance) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(b"GET /mirror/1 HTTP/1.1\r\nhost: x\r\n\r\n")
        raw.read_until(b"}")
        raw.send(b"GET /mirror/2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'"path":"/mirror/2"' in raw.read_to_end()


def test_pipelined_requests_are_answered_in_order(mirror: App, instance: Instance) -> None:
    with RawConnection(instance.port) as raw:
        first = b"GET /mirror/1 HTTP/1.1\r\nhost: x\r\n\r\n"
        raw.send(first + b"GET /mirror/2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = raw.read_to_end()
        assert 0 < text.index(b'"/mirror/1"') < text.index(b'"/mirror/2"')


def test_a_malformed_request_is_400_and_harms_nobody(mirror: App, instance: Instance) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(b"this is not HTTP\r\n\r\n")
        assert raw.read_to_end().startswith(b"HTTP/1.1 400")
    assert mirror.get().status == 200
