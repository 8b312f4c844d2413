"""What `@serve.ingress` accepts, and how views of a class are bound to its instance."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import cloudpickle
import pytest
from fastapi import APIRouter, FastAPI

from eagleray import serve
from eagleray.base.errors import BackPressureError
from eagleray.serve.ingress import build_app, docs_path, is_ingress


async def raw_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is a plain function."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"raw"})


def get(app: Any, path: str) -> tuple[int, bytes]:
    """One GET request, without a server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def make_api() -> tuple[FastAPI, type, type]:
    api = FastAPI()
    router = APIRouter()

    class Base:
        @api.get("/inherited")
        def inherited(self) -> str:
            return type(self).__name__

    class View(Base):
        def __init__(self, word: str) -> None:
            self.word = word

        @api.get("/sync/{number}")
        def sync(self, number: int, times: int = 2) -> str:
            return self.word * number * times

        @api.get("/async")
        async def asynchronous(self) -> str:
            return self.word

        @router.get("/routed")
        def routed(self) -> str:
            return self.word

    class Other:
        @api.get("/other")
        def other(self) -> str:
            return "other"

    @api.get("/free")
    def free() -> str:
        return "free"

    api.include_router(router, prefix="/more")
    return api, View, Other


def test_views_get_their_instance_as_self() -> None:
    api, view, _ = make_api()
    served = serve.ingress(api)(view)
    app = build_app(served("ab"))
    assert get(app, "/sync/2") == (200, b'"abababab"')
    assert get(app, "/sync/x")[0] == 422
    assert get(app, "/async") == (200, b'"ab"')
    assert get(app, "/inherited") == (200, b'"View"')
    assert get(app, "/more/routed") == (200, b'"ab"')
    assert get(app, "/free") == (200, b'"free"')
    assert get(app, "/other")[0] == 404, "a view of another class that shares the application"
    operations = api.openapi()["paths"]["/sync/{number}"]["get"]
    assert [parameter["name"] for parameter in operations["parameters"]] == ["number", "times"]
    assert docs_path(app) == "/docs"


def test_an_ingress_of_a_script_survives_the_way_to_a_replica() -> None:
    api, view, _ = make_api()
    copy = pickle.loads(cloudpickle.dumps(serve.ingress(api)(view)))
    assert get(build_app(copy("z")), "/more/routed") == (200, b'"z"')


def test_a_router_a_builder_a_function_and_a_hook_are_applications() -> None:
    router = APIRouter()

    class Routed:
        @router.get("/path")
        def path(self) -> int:
            return 3

    def make() -> FastAPI:
        return make_api()[0]

    class Late:
        def __serve_build_asgi_app__(self) -> Any:
            return raw_app

    assert get(build_app(serve.ingress(router)(Routed)()), "/path") == (200, b"3")
    assert get(build_app(serve.ingress(make)()()), "/free") == (200, b'"free"')
    assert get(build_app(serve.ingress(raw_app)()()), "/") == (200, b"raw")
    assert get(build_app(serve.ingress()(Late)()), "/") == (200, b"raw")


def test_an_overload_that_escapes_a_route_is_answered_as_one() -> None:
    api = FastAPI()

    @api.get("/")
    def busy() -> None:
        raise BackPressureError(1, 1, status_code=429, retry_after_s=2)

    status, body = get(build_app(serve.ingress(api)()()), "/")
    assert status == 429
    assert b"backpressure" in body


def test_wrong_uses_are_value_errors() -> None:
    class WithCall:
        def __call__(self) -> None:
            """Hides the application."""

    class Empty:
        """Has no hook."""

    with pytest.raises(ValueError, match="class"):
        serve.ingress(raw_app)(raw_app)
    with pytest.raises(ValueError, match="__call__"):
        serve.ingress(raw_app)(WithCall)
    with pytest.raises(ValueError, match="__serve_build_asgi_app__"):
        serve.ingress()(Empty)


def test_an_application_that_is_none_is_a_type_error() -> None:
    def make_nothing() -> None:
        """Forgets to return."""

    with pytest.raises(TypeError, match="NoneType"):
        build_app(serve.ingress(make_nothing)()())


def test_subclasses_are_ingresses_too_and_others_are_not() -> None:
    base = serve.ingress(raw_app)(type("Base", (), {}))
    derived = type("Derived", (base,), {"__init__": lambda self: None})
    assert is_ingress(derived)
    assert not is_ingress(raw_app)
    assert build_app(object()) is None
