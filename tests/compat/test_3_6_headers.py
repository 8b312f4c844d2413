"""Surface 3.6 and 3.8: request ids and other headers; section 10 check 8."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.compat.client import RawConnection
from tests.compat.impl import App, Instance, differs, module, serve

current_request = module("context")._get_serve_request_context


@serve.deployment
class Ids:
    def __call__(self, request: Request) -> dict[str, Any]:
        if "fail" in request.query_params:
            raise ValueError("failed")
        return {"header": request.headers["x-request-id"], "context": current_request().request_id}


@pytest.fixture(scope="module")
def ids(instance: Instance) -> App:
    return instance.run(Ids.bind(), name="ids")


def test_a_given_request_id_is_used_and_echoed(ids: App) -> None:
    reply = ids.get(headers={"X-Request-ID": "mine-1"})
    assert reply.json() == {"header": "mine-1", "context": "mine-1"}
    assert reply.headers["x-request-id"] == "mine-1"


def test_an_absent_request_id_is_made(ids: App) -> None:
    reply = ids.get()
    found = reply.json()
    assert found["header"] == found["context"] == reply.headers["x-request-id"]
    assert str(uuid.UUID(found["header"])) == found["header"]
    assert ids.get().json()["header"] != found["header"]


@pytest.mark.parametrize("path", ["/nowhere", "/ids?fail=1", "/-/healthz", "/-/routes"])
def test_every_response_has_the_request_id(ids: App, instance: Instance, path: str) -> None:
    assert instance.get(path, headers={"x-request-id": "any"}).headers["x-request-id"] == "any"


@differs("doubled-request-id")
def test_an_application_that_sets_a_request_id_yields_one(instance: Instance) -> None:
    @serve.deployment
    def own() -> Any:
        return PlainTextResponse("own", headers={"x-request-id": "of-the-app"})

    app = instance.run(own.bind())
    with RawConnection(instance.port) as raw:
        raw.send(f"GET {app.prefix} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert raw.read_to_end().lower().count(b"x-request-id:") == 1


def test_connections_are_kept_alive_unless_the_client_closes(ids: App, instance: Instance) -> None:
    with RawConnection(instance.port) as raw:
        for number in range(3):
            raw.received = b""
            raw.send(f"GET /ids HTTP/1.1\r\nhost: x\r\nx-request-id: n{number}\r\n\r\n".encode())
            raw.read_until(f'"context":"n{number}"}}'.encode())
        raw.send(b"GET /ids HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        raw.read_to_end()


def test_http_1_0_is_answered_and_closed(ids: App, instance: Instance) -> None:
    with RawConnection(instance.port) as raw:
        raw.send(b"GET /ids HTTP/1.0\r\n\r\n")
        assert b" 200 " in raw.read_to_end()


def test_the_server_says_the_date(ids: App) -> None:
    assert "date" in ids.get().headers
