"""Replicas that share GPUs, and that each take the shorter way once they have had many requests.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 eagleray run d001.load_balanced.app:app
eagleray run d001.load_balanced.app:app layout=heavy_load      (with EAGLERAY_NUM_GPUS=2)
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from d001.encoder import Encoder
from d001.refusal import refuse_without_echo
from eagleray import serve
from eagleray.serve import Application

LAYOUTS = {  # replicas, and how much of a GPU each of them has
    "document": (3, 0.3),
    "one_gpu": (2, 0.5),
    "several_gpus": (4, 0.5),
    "heavy_load": (6, 0.3),
}
MANY = 100
SHORT_WORDS = 40

api = FastAPI()
refuse_without_echo(api)


class Ranking(BaseModel):
    """Passages to put in order by how well they answer the query."""

    query: str = Field(min_length=1, max_length=10_000)
    passages: list[Annotated[str, Field(max_length=10_000)]] = Field(min_length=1, max_length=100)


@serve.deployment(num_replicas=3, ray_actor_options={"num_gpus": 0.3})
@serve.ingress(api)
class LoadBalancedModel:
    """Up to 100 requests a replica reads passages as a whole, then only how they begin."""

    def __init__(self) -> None:
        self.model = Encoder()
        self.request_count = 0

    @api.post("/api")
    async def handle_request(self, request: Ranking) -> dict[str, Any]:
        self.request_count += 1
        count, passages = self.request_count, request.passages
        if count > MANY:
            passages = [" ".join(passage.split()[:SHORT_WORDS]) for passage in passages]
        return {
            "order": await asyncio.to_thread(self.process_request, request.query, passages),
            "mode": "short" if count > MANY else "whole",
            "request_count": count,
            "replica": serve.get_replica_context().replica_tag,
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }

    def process_request(self, query: str, passages: list[str]) -> list[int]:
        (asked,) = self.model.encode([query], is_query=True)
        order: list[int] = (-(self.model.encode(passages, is_query=False) @ asked)).argsort().tolist()
        return order


class Arguments(BaseModel):
    layout: Literal["document", "one_gpu", "several_gpus", "heavy_load"] = "document"


def app(args: Arguments) -> Application:
    """The model in as many replicas as a layout says."""
    replicas, gpus = LAYOUTS[args.layout]
    return LoadBalancedModel.options(num_replicas=replicas, ray_actor_options={"num_gpus": gpus}).bind()
