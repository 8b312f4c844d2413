"""HTTP requests that user code hands on to another deployment: they travel with their body, once that is there.

A splitter or gateway that says `await handle.remote(request)` means what the client has sent. The copy answers
`json()`, `body()`, `headers`, `query_params` and the like as the original does; it is connected to nobody, so it never
hears that the client has gone, and has nothing of the application that took the request (`app`, `state`).
"""

from __future__ import annotations

import asyncio
import copyreg
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.requests import Request

_KEPT = (
    *(
        "type",
        "asgi",
        "http_version",
        "server",
        "client",
        "scheme",
        "method",
        "root_path",
        "path",
        "raw_path",
    ),
    *("query_string", "headers", "path_params"),
)
"""Keys of the scope that are data."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


def send_requests() -> None:
    """In this process requests can be pickled from now on."""
    copyreg.pickle(Request, _reduce)


def _reduce(request: Request) -> tuple[Callable[..., Request], tuple[Any, ...]]:
    body = getattr(request, "_body", None)
    if body is None:
        if any(name in _FRAMING for name, _ in request.scope["headers"]):
            raise TypeError("its body has not been read: `await request.body()` first, and it can be sent")
        body = b""
    return _restore, ({key: request.scope[key] for key in _KEPT if key in request.scope}, body)


def _restore(scope: MutableMapping[str, Any], body: bytes) -> Request:
    request = Request(scope, _nothing_more)
    request._body = body
    return request


async def _nothing_more() -> MutableMapping[str, Any]:
    """The body is there, and nobody who could go away."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError
