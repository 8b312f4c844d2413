"""The summary of the article that fits some keywords best, and who and what it names, if it is a pleasant one.

cd examples/seeds && eagleray run d004.nlp_summary.app:app
curl 'localhost:8000/?search_term=physicist'
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from d004.nlp_summary.encyclopedia import Encyclopedia
from d004.nlp_summary.entities import EntityRecognition
from d004.nlp_summary.sentiment import SentimentAnalysis
from d004.nlp_summary.summary import Summarizer
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

POSITIVE_FROM = 0.5

api = FastAPI(title="NLP summaries")


class Entity(BaseModel):
    text: str
    label: str
    score: float


class Response(BaseModel):
    success: bool
    message: str = ""
    title: str = ""
    summary: str = ""
    named_entities: list[Entity] = []


def failure(status: int, message: str, title: str = "") -> JSONResponse:
    return JSONResponse(Response(success=False, message=message, title=title).model_dump(), status)


@serve.deployment
@serve.ingress(api)
class NLPipelineDriver:
    """All of the control flow: search, sentiment, the decision, then summary and entities at the same time."""

    def __init__(
        self,
        sentiment_analysis: DeploymentHandle,
        summarizer: DeploymentHandle,
        entity_recognition: DeploymentHandle,
    ) -> None:
        self.encyclopedia = Encyclopedia()
        self.sentiment_analysis = sentiment_analysis
        self.summarizer = summarizer
        self.entity_recognition = entity_recognition

    @api.get("/", response_model=Response)
    async def summarize_article(
        self, search_term: Annotated[str, Query(min_length=1, max_length=200)]
    ) -> Any:
        article = self.encyclopedia.fetch(search_term)
        if article is None:
            return failure(404, f"There is no article about '{search_term}'.")
        if await self.sentiment_analysis.remote(article.text) < POSITIVE_FROM:
            return failure(422, "The article is negative: it is not summarized.", article.title)
        summary, entities = await asyncio.gather(
            self.summarizer.remote(article.text), self.entity_recognition.remote(article.text)
        )
        return Response(success=True, title=article.title, summary=summary, named_entities=entities)

    @api.get("/work")
    async def work(self) -> dict[str, int]:
        """What the models have done so far."""
        return {
            "largest_sentiment_batch": await self.sentiment_analysis.get_largest_batch.remote(),
            "entity_calls": await self.entity_recognition.count_calls.remote(),
        }


app = NLPipelineDriver.bind(
    SentimentAnalysis.bind(),
    Summarizer.bind(),
    EntityRecognition.bind(threshold=0.9, max_entities=10),
)
