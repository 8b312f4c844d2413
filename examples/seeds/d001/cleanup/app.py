"""A service whose requests leave reference cycles behind, and that collects them after each request.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 eagleray run d001.cleanup.app:app
curl -H 'content-type: application/json' -d '{"text": "first sentence. second sentence."}' localhost:8000/api
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from d001.encoder import Encoder
from d001.machine import MIB, memory_for
from d001.refusal import refuse_without_echo
from eagleray import serve

REPLICAS = 2

api = FastAPI()
refuse_without_echo(api)


class Text(BaseModel):
    text: str = Field(min_length=1, max_length=100_000)


class Sentence:
    """Knows the one before and the one behind it: a cycle, which only the garbage collector can free."""

    def __init__(self, text: str, before: Sentence | None) -> None:
        self.text = text
        self.before = before
        self.behind: Sentence | None = None
        if before is not None:
            before.behind = self


@serve.deployment(
    num_replicas=REPLICAS,
    ray_actor_options={
        "num_gpus": 0.5,
        "memory": memory_for(REPLICAS, 4000 * MIB),
        "object_store_memory": 1000 * MIB,
    },
)
@serve.ingress(api)
class CleanModel:
    """Says which sentence of a text stands for the whole of it best."""

    def __init__(self) -> None:
        self.model = Encoder()
        self.sentences: weakref.WeakSet[Sentence] = weakref.WeakSet()
        gc.collect()
        gc.freeze()  # what is there now stays: a collection after a request looks at what came since

    @api.post("/api")
    def api_with_cleanup(self, request: Text) -> dict[str, Any]:
        best = self.process(request.text)
        collected = gc.collect()
        return {"sentence": best, "collected": collected, "sentences_alive": len(self.sentences)}

    def process(self, text: str) -> str:
        chain: list[Sentence] = []
        for part in filter(None, map(str.strip, text.split("."))):
            chain.append(Sentence(part, chain[-1] if chain else None))
        self.sentences.update(chain)
        (whole,) = self.model.encode([text], is_query=False)
        vectors = self.model.encode([sentence.text for sentence in chain] or [text], is_query=False)
        best = int((vectors @ whole).argmax())
        return chain[best].text if chain else text


app = CleanModel.bind()
