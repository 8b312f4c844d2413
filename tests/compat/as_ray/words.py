"""Half of a Ray Serve program as people write them: it imports `ray`, here, at the top and where it is needed."""

from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle


@serve.deployment
class Upper:
    def __call__(self, text: str) -> str:
        from ray.serve.context import _get_serve_request_context

        assert _get_serve_request_context().request_id
        if not text:
            raise ValueError("no text")
        return text.upper()


@serve.deployment
class Front:
    def __init__(self, upper: DeploymentHandle) -> None:
        self.upper = upper

    async def __call__(self, request: Any) -> dict[str, Any]:
        context = ray.get_runtime_context()
        return {
            "text": await self.upper.remote(request.query_params["text"]),
            "app": serve.get_replica_context().app_name,
            "ids": [type(context.get_actor_id()).__name__, type(context.get_node_id()).__name__],
            "initialized": ray.is_initialized(),
        }


def build(arguments: dict[str, str]) -> serve.Application:
    return Front.bind(Upper.bind())
