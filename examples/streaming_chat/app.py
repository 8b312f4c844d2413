"""A chat whose answer comes word by word, through a middle deployment: `eagleray run app:app`, then

    curl -N 'http://127.0.0.1:8000/chat?prompt=a+function+is'

The words are made one at a time in `Writer`, handed on by `Chat` as server-sent events, and stop being made when the
client goes away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from model import TrigramModel

from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

api = FastAPI(title="Chat")


@serve.deployment(max_ongoing_requests=100)
class Writer:
    """The model. A real one would wait for its accelerator where this one waits for `pace_s`."""

    def __init__(self) -> None:
        self.model = TrigramModel.train()
        self.writing = 0

    async def write(self, prompt: str, limit: int, seed: int, pace_s: float) -> AsyncIterator[str]:
        self.writing += 1
        try:
            for word in self.model.words(prompt, limit, seed):
                yield word
                await asyncio.sleep(pace_s)
        finally:
            self.writing -= 1

    async def busy(self) -> int:
        return self.writing


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Chat:
    """What clients talk to."""

    def __init__(self, writer: DeploymentHandle) -> None:
        self.writer = writer

    @api.get("/chat")
    async def chat(
        self, prompt: str, limit: int = 60, seed: int = 0, pace_s: float = 0.02
    ) -> StreamingResponse:
        words = self.writer.options(stream=True).write.remote(prompt, limit, seed, pace_s)

        async def events() -> AsyncIterator[str]:
            async for word in words:
                yield f"data: {json.dumps({'word': word})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @api.get("/busy")
    async def busy(self) -> int:
        return int(await self.writer.busy.remote())


app = Chat.bind(Writer.bind())
