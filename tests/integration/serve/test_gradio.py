"""Gradio's pages: the server, and a class of its own, asked by Gradio's own client over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.compat.impl import free_port

from eagleray import serve
from eagleray.serve.gradio_integrations import GradioIngress, GradioServer
from eagleray.serve.handle import DeploymentHandle

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's own


def shouted() -> Any:
    import gradio

    return gradio.Interface(str.upper, "text", "text", api_name="shout")


@serve.deployment
class Doubler:
    def __call__(self, text: str) -> str:
        return text * 2


@serve.deployment
class Page(GradioIngress):
    def __init__(self, doubler: DeploymentHandle[str]) -> None:
        import gradio

        self.doubler = doubler
        super().__init__(lambda: gradio.Interface(self.doubled, "text", "text", api_name="double"))

    async def doubled(self, text: str) -> str:
        return await self.doubler.remote(text)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()


def ask(url: str, endpoint: str, text: str) -> Any:
    from gradio_client import Client

    return Client(url, verbose=False, download_files=False).predict(text, api_name=endpoint)


def test_a_page_is_served_at_the_root_and_below_a_prefix(port: int) -> None:
    serve.run(GradioServer.options(num_replicas=1).bind(shouted), name="shout", route_prefix="/shout")
    assert ask(f"http://127.0.0.1:{port}/shout/", "/shout", "hello") == "HELLO"
    serve.run(GradioServer.bind(shouted), name="shout", route_prefix="/")
    assert ask(f"http://127.0.0.1:{port}/", "/shout", "you") == "YOU"


def test_a_page_may_call_other_deployments(port: int) -> None:
    serve.run(Page.bind(Doubler.bind()), name="page", route_prefix="/page")
    assert ask(f"http://127.0.0.1:{port}/page/", "/double", "ab") == "abab"
