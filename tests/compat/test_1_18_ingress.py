"""Surface 1.18: ASGI ingresses, class-based FastAPI views, lifespan; section 10 check 13."""

# No `from __future__ import annotations`: FastAPI and builders read real annotations, as in users' scripts.
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from tests.compat.impl import App, Instance, differs, exceptions, serve
from tests.compat.world import Journal

api = FastAPI()


class Item(BaseModel):
    name: str
    price: float


class Views:
    """Routes that a subclass inherits."""

    @api.get("/inherited")
    def inherited(self) -> str:
        return self.greeting


@serve.deployment(name="views")
@serve.ingress(api)
class Shop(Views):
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    @api.get("/")
    def root(self) -> str:
        return self.greeting

    @api.get("/items/{item_id}")
    async def item(self, item_id: int, q: str | None = None) -> dict[str, Any]:
        if item_id == 0:
            raise HTTPException(status_code=404, detail="no item 0")
        if item_id == 1:
            raise ZeroDivisionError("item 1")
        return {"id": item_id, "q": q, "greeting": self.greeting}

    @api.post("/items")
    async def add(self, item: Item) -> Item:
        return item

    @api.get("/where")
    def where(self, request: Request) -> dict[str, str]:
        return {"path": request.url.path, "root_path": request.scope["root_path"]}

    def plain_method(self, value: int) -> str:
        return f"{self.greeting} {value}"


@pytest.fixture(scope="module")
def shop(instance: Instance) -> App:
    return instance.run(Shop.bind("good day"), name="shop")


def test_views_get_the_instance_as_self(shop: App) -> None:
    assert shop.get("/").json() == "good day"
    assert shop.get("/items/7?q=x").json() == {"id": 7, "q": "x", "greeting": "good day"}
    assert shop.get("/inherited").json() == "good day"


def test_bodies_are_validated(shop: App) -> None:
    assert shop.http("POST", "/items", json={"name": "a", "price": 1.5}).json() == {"name": "a", "price": 1.5}
    reply = shop.http("POST", "/items", json={"name": "a"})
    assert (reply.status, reply.json()["detail"][0]["loc"]) == (422, ["body", "price"])
    assert shop.get("/items/x").status == 422


def test_errors_are_the_frameworks(shop: App) -> None:
    reply = shop.get("/items/0")
    assert (reply.status, reply.json()) == (404, {"detail": "no item 0"})
    reply = shop.get("/items/1")
    assert (reply.status, reply.text) == (500, "Internal Server Error")
    reply = shop.get("/nowhere")
    assert (reply.status, reply.json()) == (404, {"detail": "Not Found"})
    assert shop.http("DELETE", "/items/7").status == 405


def test_docs_are_below_the_prefix_and_self_is_no_parameter(shop: App) -> None:
    assert shop.get("/docs").status == 200
    schema = shop.get("/openapi.json").json()
    names = [parameter["name"] for parameter in schema["paths"]["/items/{item_id}"]["get"]["parameters"]]
    assert names == ["item_id", "q"]


def test_paths_are_full_and_root_path_is_the_prefix(shop: App) -> None:
    assert shop.get("/where").json() == {"path": "/shop/where", "root_path": "/shop"}


def test_the_other_methods_are_callable_through_a_handle(shop: App) -> None:
    assert shop.handle.plain_method.remote(3).result(timeout_s=20) == "good day 3"


def test_two_classes_may_share_one_app(instance: Instance) -> None:
    shared = FastAPI()

    @shared.get("/common")
    def common() -> str:
        return "common"

    @serve.deployment
    @serve.ingress(shared)
    class First:
        @shared.get("/first")
        def first(self) -> str:
            return type(self).__name__

    @serve.deployment
    @serve.ingress(shared)
    class Second:
        @shared.get("/second")
        def second(self) -> str:
            return type(self).__name__

    first, second = instance.run(First.bind()), instance.run(Second.bind())
    assert [first.get("/common").json(), second.get("/common").json()] == ["common", "common"]
    assert first.get("/first").json() == "First"
    assert second.get("/second").json() == "Second"


def test_any_asgi_app_can_be_the_ingress(instance: Instance) -> None:
    def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("starlette")

    @serve.deployment
    @serve.ingress(Starlette(routes=[Route("/hello", hello)]))
    class Holder:
        pass

    app = instance.run(Holder.bind())
    assert app.get("/hello").text == "starlette"
    assert app.get("/other").status == 404


def test_a_bare_asgi_object_can_be_the_ingress(instance: Instance) -> None:
    class Bare:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await JSONResponse({"path": scope["path"]})(scope, receive, send)

    @serve.deployment
    @serve.ingress(Bare())
    class Holder:
        pass

    app = instance.run(Holder.bind())
    assert app.get("/a/b").json() == {"path": f"{app.prefix}/a/b"}


def test_a_builder_function_makes_the_app_in_the_replica(instance: Instance) -> None:
    def build() -> FastAPI:
        built = FastAPI()
        context = serve.get_replica_context()

        @built.get("/app")
        def app_name() -> str:
            return context.app_name

        return built

    @serve.deployment
    @serve.ingress(build)
    class Holder:
        pass

    app = instance.run(Holder.bind())
    assert app.get("/app").json() == app.name


@differs("asgi-function-ingress")
def test_an_asgi_function_can_be_the_ingress(instance: Instance) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("function")(scope, receive, send)

    @serve.deployment
    @serve.ingress(bare)
    class Holder:
        pass

    assert instance.run(Holder.bind()).get().text == "function"


def test_the_lifespan_runs_once_in_each_replica(instance: Instance, journal: Journal) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        journal.write("startup")
        yield
        journal.write("shutdown")

    living = FastAPI(lifespan=lifespan)

    @serve.deployment(graceful_shutdown_wait_loop_s=0.1)
    @serve.ingress(living)
    class Holder:
        @living.get("/")
        def root(self) -> str:
            return "up"

    app = instance.run(Holder.bind())
    assert [app.get("/").json(), app.get("/").json()] == ["up", "up"]
    assert journal.lines() == ["startup"]
    serve.delete(app.name)
    journal.wait_for("shutdown")
    assert journal.lines() == ["startup", "shutdown"]


def test_a_failing_startup_fails_the_deploy(instance: Instance) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        raise ValueError("cold start")
        yield

    @serve.deployment(max_constructor_retry_count=1)
    @serve.ingress(FastAPI(lifespan=lifespan))
    class Holder:
        pass

    with pytest.raises(RuntimeError):
        instance.run(Holder.bind())


def test_errors_of_child_calls_are_mapped_in_a_route(instance: Instance) -> None:
    overloaded = FastAPI()

    @serve.deployment
    @serve.ingress(overloaded)
    class Holder:
        @overloaded.get("/full")
        def full(self) -> None:
            raise exceptions.BackPressureError(3, 2)

    reply = instance.run(Holder.bind()).get("/full")
    assert (reply.status, reply.text) == (503, exceptions.BackPressureError(3, 2).message)


def test_only_classes_without_call_can_be_ingresses() -> None:
    app = FastAPI()

    with pytest.raises(ValueError):
        serve.ingress(app)(lambda: None)
    with pytest.raises(ValueError):

        @serve.ingress(app)
        class HasCall:
            def __call__(self) -> None: ...

    with pytest.raises(ValueError):

        @serve.ingress()
        class HasNoHook:
            pass
