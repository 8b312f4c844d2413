"""One base model and many LoRA adapters: each replica keeps the four that were used last.

cd examples/seeds && eagleray run d002.multi_lora.app:app
curl -H 'X-LoRA-Id: mirror' -H 'serve_multiplexed_model_id: mirror' --json '[0,0,5,13,9,1,0,0, ...]' localhost:8000
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from d002.multi_lora.model import ADAPTERS, Base, LoRA
from eagleray import serve


@serve.deployment(num_replicas=2)
class MultiLoRAModel:
    def __init__(self) -> None:
        self.base_model = Base()
        self.loads = 0

    @serve.multiplexed(max_num_models_per_replica=4)
    async def get_model(self, lora_id: str) -> LoRA:
        self.loads += 1
        return await asyncio.to_thread(LoRA, self.base_model, lora_id)

    async def __call__(self, request: Request) -> Any:
        lora_id = request.headers.get("X-LoRA-Id")
        if lora_id not in ADAPTERS:
            return PlainTextResponse(f"X-LoRA-Id must be one of {ADAPTERS}, not {lora_id!r}", 404)
        lora_model = await self.get_model(lora_id)
        return {
            "digit": lora_model.read(await request.json()),
            "replica": serve.get_replica_context().replica_tag,
            "loads": self.loads,
        }


app = MultiLoRAModel.bind()
