"""A request for a typed entry, without a replica."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from eagleray.replica.typed import RequestRefused, TypedEntry, typed_entry

UNSET: Any = object()


def request(
    body: bytes = b"",
    *,
    method: str = "POST",
    query: str = "",
    content_type: str | None = None,
    **headers: str,
) -> Request:
    """Starlette's request with its body read, as the replica makes it."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if content_type is not None:
        fields.append((b"content-type", content_type.encode("latin-1")))
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "query_string": query.encode("latin-1"),
        "headers": fields,
    }
    made = Request(scope)
    made._body = body
    return made


def entry_of(function: Callable[..., Any], **options: Any) -> TypedEntry:
    entry = typed_entry(function, **options)
    assert entry is not None, "the function takes Starlette's request"
    return entry


def ask(function: Callable[..., Any], body: bytes = b"", *, json_body: Any = UNSET, **options: Any) -> Any:
    """What `function` returns for a request."""
    if json_body is not UNSET:
        body = json.dumps(json_body).encode()
        options.setdefault("content_type", "application/json")
    return entry_of(function)(request(body, **options))


def refused(function: Callable[..., Any], body: bytes = b"", **options: Any) -> tuple[int, list[Any]]:
    """Status, and (type, loc) of everything that was found wrong."""
    try:
        result = ask(function, body, **options)
    except RequestRefused as refusal:
        assert json.loads(refusal.encode()) == {"detail": refusal.detail}
        assert all(one["msg"] for one in refusal.detail)
        return refusal.status, [(one["type"], one["loc"]) for one in refusal.detail]
    raise AssertionError(f"the request was taken: {result!r}")
