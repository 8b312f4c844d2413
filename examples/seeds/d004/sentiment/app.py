"""One model behind FastAPI, which answers several requests at once and gets a second replica under load.

cd examples/seeds && eagleray run d004.sentiment.app:app
curl 'localhost:8000/?input_text=what+a+lovely+day'
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel

from d004.nlp_summary.sentiment import SentimentModel
from eagleray import serve

api = FastAPI(title="Sentiment")


class Sentiment(BaseModel):
    label: str
    positive: float


@serve.deployment(
    max_ongoing_requests=32,
    ray_actor_options={"num_cpus": 0.5},
    autoscaling_config={"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 16},
)
@serve.ingress(api)
class SentimentAnalysis:
    """Its model is made once, with its replica. FastAPI checks what comes; the batch is behind its route."""

    def __init__(self) -> None:
        self.model = SentimentModel()

    @api.get("/")
    async def analyse(self, input_text: Annotated[str, Query(min_length=1, max_length=2000)]) -> Sentiment:
        positive = await self.predict(input_text)
        return Sentiment(label="positive" if positive >= 0.5 else "negative", positive=positive)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def predict(self, texts: list[str]) -> list[float]:
        return await asyncio.to_thread(self.model.predict, texts)


app = SentimentAnalysis.bind()
