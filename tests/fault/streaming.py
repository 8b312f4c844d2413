"""The application of the slow-reader test: gigabytes through a middle deployment, made as fast as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from eagleray import serve

CHUNK = bytes(1_000_000)


@serve.deployment
class Source:
    async def chunks(self, count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield CHUNK

    def chunks_from_a_thread(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield CHUNK


@serve.deployment
class Middle:
    def __init__(self, source: Any) -> None:
        self.source = source.options(stream=True)

    async def __call__(self, request: Request) -> StreamingResponse:
        kind, count = request.url.path.strip("/"), int(request.query_params["count"])
        method = self.source.chunks if kind == "loop" else self.source.chunks_from_a_thread
        return StreamingResponse(method.remote(count), media_type="application/octet-stream")


app = Middle.bind(Source.bind())
