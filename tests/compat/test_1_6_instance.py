"""Surface 1.6: start, shutdown, delete, status and handle look-ups. Each test starts and ends what it needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.compat.client import request
from tests.compat.impl import (
    DeploymentHandle,
    differs,
    exceptions,
    free_port,
    module,
    prepare,
    running,
    serve,
)
from tests.waiting import wait_until

config = module("config")


@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
class Hello:
    def __call__(self, request: Any = None) -> str:
        return "hello"

    def pid(self) -> int:
        return os.getpid()


@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
class Finder:
    """Looks handles up from inside a replica."""

    def __init__(self, child: Any) -> None:
        pass

    async def __call__(self, app_name: str | None = None) -> str:
        handle = serve.get_deployment_handle("Hello", app_name=app_name)
        return await handle.remote()

    async def app(self, name: str) -> str:
        return await serve.get_app_handle(name).remote()


@pytest.fixture(scope="module", autouse=True)
def nothing_runs() -> Iterator[None]:
    prepare()
    yield
    serve.shutdown()


def test_one_life_of_an_instance() -> None:
    serve.shutdown()
    status = serve.status()
    assert (status.applications, status.proxies) == ({}, {})
    with pytest.raises(exceptions.RayServeException):
        serve.get_app_handle("default")

    with running() as first:
        serve.start(http_options={"port": free_port()})  # keeps the first port
        first.run(Hello.bind(), name="default", route_prefix="/")
        assert first.get("/").text == "hello"
        assert set(serve.status().applications) == {"default"}
        assert list(serve.status().proxies.values()) == ["HEALTHY"]

    serve.shutdown()
    with pytest.raises(OSError):
        first.get("/")
    assert serve.status().applications == {}

    port = free_port()
    serve.start(http_options=config.HTTPOptions(host="127.0.0.1", port=port), proxy_location="HeadOnly")
    assert serve.run(Hello.bind()).remote().result(timeout_s=20) == "hello"
    assert request(port, "GET", "/").text == "hello"
    asyncio.run(serve.shutdown_async())
    assert serve.status().applications == {}


@pytest.mark.parametrize("name", ["http_host", "http_port", "http_middlewares"])
def test_old_spellings_of_http_options_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        serve.start(**{name: None})


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError):
        serve.start(proxy_location="Nowhere")
    with pytest.raises(TypeError):
        serve.start(proxy_location=1)
    with pytest.raises(ValueError):
        serve.start(http_options={"port": "many"})


def test_look_ups_and_delete() -> None:
    with running() as instance:
        first = instance.run(Hello.bind(), name="first", route_prefix="/first")
        second = instance.run(Finder.bind(Hello.bind()), name="second", route_prefix="/second")

        handle = serve.get_app_handle("first")
        assert isinstance(handle, DeploymentHandle)
        assert handle.remote().result(timeout_s=20) == "hello"
        with pytest.raises(exceptions.RayServeException, match="Application 'third' does not exist"):
            serve.get_app_handle("third")

        handle = serve.get_deployment_handle("Hello", app_name="second")
        assert (handle.deployment_name, handle.app_name) == ("Hello", "second")
        assert handle.remote().result(timeout_s=20) == "hello"
        with pytest.raises(exceptions.RayServeException):
            serve.get_deployment_handle("Hello")
        with pytest.raises(KeyError):
            serve.get_deployment_handle("Missing", app_name="second")

        assert second.call() == "hello"  # its own application by default
        assert second.call("first") == "hello"
        assert second.handle.app.remote("first").result(timeout_s=20) == "hello"

        serve.delete("third")  # nothing to do
        serve.delete("first")
        assert set(serve.status().applications) == {"second"}
        wait_until(lambda: first.get().status == 404, "the route's end")
        assert second.get().status in (200, 500)
        with pytest.raises(exceptions.RayServeException):
            serve.get_app_handle("first")


@differs("start-unknown-keyword")
def test_a_misspelt_option_of_start_is_refused() -> None:
    with pytest.raises(TypeError):
        serve.start(http_optoins={})


def test_detached_is_still_accepted() -> None:
    try:
        serve.start(detached=True, http_options={"port": free_port()})
        assert serve.status().applications == {}
    finally:
        serve.shutdown()
