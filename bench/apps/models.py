"""Many models in one deployment, for scenario `multiplex`. Apart from serving.py, which runs on older checkouts too."""

import asyncio
import os
from typing import Any

from starlette.requests import Request

if os.environ.get("SERVE_IMPL") == "ray":
    from ray import serve
else:
    from eagleray import serve  # type: ignore[no-redef]


@serve.deployment(num_replicas=2, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Models:
    """Loading takes 50 ms and writes one byte; a request that names no model is answered at once."""

    def __init__(self) -> None:
        self.loads: Any = open(os.environ["BENCH_LOADS"], "ab", 0)  # noqa: SIM115 - for the replica's life

    @serve.multiplexed(max_num_models_per_replica=4)
    async def get_model(self, model_id: str) -> str:
        await asyncio.sleep(0.05)
        self.loads.write(b".")
        return model_id

    async def __call__(self, request: Request) -> str:
        model_id = serve.get_multiplexed_model_id()
        if model_id:
            await self.get_model(model_id)
        return "ok"
