"""The embedding service of a retrieval system: FastAPI, batches, a cache, an executor, metrics, health and debug pages.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 eagleray run d001/embedding/production.yaml
curl -H 'content-type: application/json' -d '{"input": ["how do bees talk?"]}' localhost:4008/embedding/api
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Literal

import psutil
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from d001.encoder import BATCH_SIZE, Encoder
from d001.machine import MIB, gpu_memory, memory_for
from d001.refusal import refuse_without_echo
from eagleray import serve
from eagleray.serve import Application, metrics

PRODUCTION_CONFIG: dict[str, Any] = {
    "num_replicas": 4,
    "num_gpus": 0.25,
    "num_cpus": 2,
    "memory": 8000 * MIB,
    "max_ongoing_requests": 50,
    "log_level": "INFO",
}
DEV_CONFIG: dict[str, Any] = {
    "num_replicas": 1,
    "num_gpus": 0.5,
    "num_cpus": 1,
    "memory": 4000 * MIB,
    "max_ongoing_requests": 10,
    "log_level": "DEBUG",
}
REMEMBERED = 1000

api = FastAPI(title="Retrieval")
refuse_without_echo(api)


class EmbeddingInput(BaseModel):
    """Texts to embed; `is_query` says whether they ask for documents or are some."""

    input: list[Annotated[str, Field(max_length=100_000)]] = Field(max_length=1000)
    is_query: bool = False


@serve.deployment
@serve.ingress(api)
class BatchCombineInferModel:
    """Queries repeat, so their vectors are remembered. Documents come once and in numbers: they go in batches.

    The model runs in threads, so that the replica takes and answers other requests meanwhile.
    """

    def __init__(self) -> None:
        self.emodel_embedding = Encoder()
        # A cache of this replica, and not of the class, which would keep every replica's `self` alive.
        self.cached_encode = lru_cache(maxsize=REMEMBERED)(self._encode_query)
        self._active_requests: set[object] = set()
        self._latency = metrics.Histogram(
            "embedding_latency",
            "Seconds that requests for embeddings take in the replica.",
            boundaries=[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
        )
        self._requests = metrics.Counter(
            "embedding_requests", "Requests for embeddings, by kind of text.", tag_keys=("kind",)
        )

    @api.post("/embedding/api", response_model=list[list[float]])
    async def embedding(self, texts: EmbeddingInput) -> Any:
        """A vector of 384 numbers for each text."""
        with self._measured("query" if texts.is_query else "document"):
            # A response is sent as it is; FastAPI would look at each of its numbers first.
            return JSONResponse(await self._vectors(texts))

    async def _vectors(self, texts: EmbeddingInput) -> list[list[float]]:
        loop = asyncio.get_running_loop()
        results: list[list[float]] = []
        for i in range(
            0, len(texts.input), BATCH_SIZE
        ):  # a client that goes away ends it between two batches
            batch = texts.input[i : i + BATCH_SIZE]
            encode = self._queries if texts.is_query else self._documents
            results += await loop.run_in_executor(None, encode, batch)
        return results

    def _queries(self, batch: list[str]) -> list[list[float]]:
        return [self.cached_encode(text) for text in batch]

    def _documents(self, batch: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.emodel_embedding.encode(batch, is_query=False).tolist()
        return vectors

    def _encode_query(self, text: str) -> list[float]:
        vector: list[float] = self.emodel_embedding.encode([text], is_query=True)[0].tolist()
        return vector

    @contextmanager
    def _measured(self, kind: str) -> Iterator[None]:
        request, start_time = object(), time.perf_counter()
        self._active_requests.add(request)
        try:
            yield
        finally:
            self._active_requests.discard(request)
            self._latency.observe(time.perf_counter() - start_time)
            self._requests.inc(tags={"kind": kind})

    @api.get("/health")
    async def health_check(self) -> dict[str, Any]:
        allocated, most = gpu_memory()
        return {
            "status": "healthy",
            "timestamp": time.time(),
            "gpu_usage": allocated / most if most else 0.0,
            "model_loaded": hasattr(self, "emodel_embedding"),
        }

    @api.get("/debug")
    async def debug_info(self) -> dict[str, Any]:
        cache = self.cached_encode.cache_info()
        return {
            "gpu_memory": gpu_memory()[0],
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "cpu_memory": psutil.virtual_memory().used,
            "active_requests": len(self._active_requests),
            "model_status": "loaded" if hasattr(self, "emodel_embedding") else "not_loaded",
            "replica": serve.get_replica_context().replica_tag,
            "cache": {"hits": cache.hits, "misses": cache.misses, "size": cache.currsize},
        }


class Arguments(BaseModel):
    environment: Literal["production", "development"] = "development"


def app(args: Arguments) -> Application:
    """The service with the options of an environment."""
    config = PRODUCTION_CONFIG if args.environment == "production" else DEV_CONFIG
    return BatchCombineInferModel.options(
        num_replicas=config["num_replicas"],
        max_ongoing_requests=config["max_ongoing_requests"],
        logging_config={"log_level": config["log_level"]},
        ray_actor_options={
            "num_gpus": config["num_gpus"],
            "num_cpus": config["num_cpus"],
            "memory": memory_for(config["num_replicas"], config["memory"]),
        },
    ).bind()
