"""Gradio's pages as deployments: `GradioServer.bind(builder)`, or a class of your own below `GradioIngress`.

The page is made in the replica, by the builder, and mounted as the ASGI application of an ingress; everything else is
Gradio's. Gradio itself is an extra, imported only there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eagleray.serve.deployment import deployment
from eagleray.serve.ingress import ingress


@ingress()
class GradioIngress:
    """Base of deployments that show a page. `builder` takes nothing and returns a gradio Blocks or Interface."""

    def __init__(self, builder: Callable[[], Any]) -> None:
        self._builder = builder

    def __serve_build_asgi_app__(self) -> Any:
        """Called once in each replica, after its constructor. ModuleNotFoundError without Gradio."""
        try:
            import gradio
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ModuleNotFoundError(
                "Gradio is not installed where the replica runs: pip install 'eagleray[gradio]', or name it in "
                "runtime_env's 'pip'.",
                name="gradio",
            ) from None
        from fastapi import FastAPI  # which comes with Gradio

        return gradio.mount_gradio_app(FastAPI(), self._builder(), path="/")


GradioServer = deployment(GradioIngress).options(name="GradioServer")
"""The page alone: `GradioServer.options(...).bind(builder)`."""

__all__ = ["GradioIngress", "GradioServer"]
