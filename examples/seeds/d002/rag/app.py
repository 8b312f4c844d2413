"""Retrieval-augmented generation in five deployments: rewrite and embed, search, rerank, generate, and an ingress.

cd examples/seeds && EAGLERAY_NUM_GPUS=2 eagleray run d002/rag/config.yaml
curl -H 'content-type: application/json' -d '{"query": "How old is the sun?"}' localhost:8000/rag
"""

from __future__ import annotations

import logging
import os
import tempfile
from functools import lru_cache
from typing import Any

import openai
from fastapi import FastAPI, HTTPException

from d002.rag.corpus import DOCUMENTS
from eagleray import serve
from models.minilm import DIMENSION, load

VERSION = os.environ.get("RAG_VERSION", "v1")
LLM_URL = os.environ.get("LLM_URL", f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/v1")
KEPT, REMEMBERED = 5, 10_000

api = FastAPI()
logger = logging.getLogger("ray.serve")


@serve.deployment(ray_actor_options={"num_cpus": 2})
class QueryRewriter:
    def __init__(self) -> None:
        self.embed_model = load()

    async def __call__(self, query: str) -> dict[str, Any]:
        rewritten = " ".join(query.split())
        return {"query": rewritten, "embedding": self.embed_model.encode([rewritten])[0].tolist()}


@serve.deployment(ray_actor_options={"num_cpus": 1})
class VectorSearch:
    """A Milvus of its own in each replica, filled when it starts."""

    def __init__(self) -> None:
        from pymilvus import MilvusClient

        self.folder = tempfile.TemporaryDirectory(prefix="rag-")
        self.uri = f"{self.folder.name}/documents.db"
        self.client = MilvusClient(uri=self.uri)
        self.client.create_collection("docs", dimension=DIMENSION, metric_type="COSINE")
        rows = load().encode([text for _, text in DOCUMENTS]).tolist()
        self.client.insert(
            "docs",
            [{"id": n, "vector": row, "text": text} for (n, text), row in zip(DOCUMENTS, rows, strict=True)],
        )

    async def __call__(self, embedding: list[float], top_k: int = 10) -> list[dict[str, Any]]:
        (hits,) = self.client.search("docs", data=[embedding], limit=top_k, output_fields=["text"])
        return [{"id": hit["id"], "text": hit["entity"]["text"]} for hit in hits]

    def __del__(self) -> None:
        from milvus_lite.server_manager import server_manager_instance

        self.client.close()
        server_manager_instance.release_server(self.uri)  # or it writes once more when the process ends
        self.folder.cleanup()


@serve.deployment(ray_actor_options={"num_gpus": 0.25})
class Reranker:
    """Late interaction: each token of the query looks for its nearest token of the document.

    The tokens of a document do not depend on the query, so they are computed once.
    """

    def __init__(self) -> None:
        self.rerank_model = load()
        self.tokens_of = lru_cache(REMEMBERED)(lambda text: self.rerank_model.tokens([text])[0])

    async def __call__(self, query: str, docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (asked,) = self.rerank_model.tokens([query])
        scores = [float((asked @ self.tokens_of(doc["text"]).T).max(axis=1).mean()) for doc in docs]
        ranked = sorted(zip(docs, scores, strict=True), key=lambda pair: -pair[1])
        return [doc for doc, _ in ranked[:KEPT]]


@serve.deployment(ray_actor_options={"num_gpus": 1})
class LLMGenerator:
    """Asks the chat server. None is the answer while that gives none: what was found is worth something without it."""

    def __init__(self) -> None:
        self.client = openai.AsyncOpenAI(base_url=LLM_URL, api_key="EMPTY")

    async def __call__(self, query: str, docs: list[dict[str, Any]]) -> str | None:
        context = "\n".join(doc["text"] for doc in docs)
        try:
            response = await self.client.chat.completions.create(
                model="default",
                messages=[
                    {"role": "system", "content": f"Answer from this material:\n{context}"},
                    {"role": "user", "content": query},
                ],
            )
        except openai.APIError as error:
            logger.warning("the chat server at %s does not answer: %s", LLM_URL, error)
            return None
        return response.choices[0].message.content


@serve.deployment
@serve.ingress(api)
class RAGService:
    def __init__(self, rewriter: Any, searcher: Any, reranker: Any, generator: Any) -> None:
        self.rewriter = rewriter
        self.searcher = searcher
        self.reranker = reranker
        self.generator = generator

    @api.post("/rag")
    async def rag(self, req: dict[str, Any]) -> dict[str, Any]:
        query = req.get("query")
        if not isinstance(query, str) or not query.strip():
            raise HTTPException(422, "'query' must be there, and a string that is not empty")
        rewritten = await self.rewriter.remote(query)
        hits = await self.searcher.remote(rewritten["embedding"], top_k=20)
        top = await self.reranker.remote(rewritten["query"], hits)
        answer = await self.generator.remote(rewritten["query"], top)
        return {"answer": answer, "sources": [doc["id"] for doc in top], "version": VERSION}


rag_app = RAGService.bind(QueryRewriter.bind(), VectorSearch.bind(), Reranker.bind(), LLMGenerator.bind())
