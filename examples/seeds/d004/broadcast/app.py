"""The broadcast pattern: one text goes to two models at the same time, and their answers come back as one.

cd examples/seeds && eagleray run d004.broadcast.app:app
curl -d 'The harvest was rich. The farmers were happy. They danced all night. The next day was quiet.' localhost:8000
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from d004.nlp_summary.sentiment import SentimentAnalysis
from d004.nlp_summary.summary import Summarizer
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle


@serve.deployment
class Broadcast:
    """Asks all models about the text of the request, and answers with what each has found, by its name."""

    def __init__(self, **models: DeploymentHandle) -> None:
        self.models = models

    async def __call__(self, request: Request) -> Any:
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError:
            return PlainTextResponse("The text is not UTF-8.", 422)
        if not text.strip():
            return PlainTextResponse("The body is the text to look at; it is empty.", 422)
        found = await asyncio.gather(*(model.remote(text) for model in self.models.values()))
        return dict(zip(self.models, found, strict=True))


app = Broadcast.bind(
    sentiment=SentimentAnalysis.bind(), summary=Summarizer.options(num_replicas=1).bind(max_sentences=2)
)
