"""Bare ASGI: the least that a Python HTTP server can do. `/` is "ok", `/echo` the body, `/stream`, `/batch`."""

from __future__ import annotations

import asyncio
from typing import Any

from batcher import Batcher

TYPE = [(b"content-type", b"text/plain")]
PLAIN = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
batcher = Batcher()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": TYPE})
        for number in range(1000):
            if number == 1 and scope["query_string"]:
                await asyncio.sleep(0.005)
            await send({"type": "http.response.body", "body": b"chunk %03d\n" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["path"] != "/echo":
        if scope["path"] == "/batch":
            await batcher.ask()
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(chunks)
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
