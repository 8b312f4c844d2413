"""Surface 3.2: how return values become responses; section 10 checks 1, 2 and 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from tests.compat.impl import App, Instance, differs, serve


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


class Model(BaseModel):
    name: str
    point: Point


RETURNS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "bytes": lambda: b"\x00\xff",
    "text": lambda: "grüße",
    "empty": lambda: "",
    "dict": lambda: {"a": [1, 2.5, None, True], "b": "c"},
    "umlauts": lambda: {"ä": "ö"},
    "list": lambda: [1, "two"],
    "tuple": lambda: ("body", 404),
    "set": lambda: {1},
    "int": lambda: 7,
    "bool": lambda: True,
    "enum": lambda: Colour.RED,
    "date": lambda: datetime(2026, 1, 2, 3, 4, 5),
    "dataclass": lambda: Point(1, 2),
    "pydantic": lambda: Model(name="m", point=Point(1, 2)),
    "array": lambda: np.array([[1, 2], [3, 4]]),
    "scalar": lambda: np.float32(0.5),
    "nested": lambda: {"prediction": np.int64(3), "scores": np.array([0.25, 0.75])},
    "exception": lambda: {"error": ValueError("told")},
    "json": lambda: JSONResponse({"a": 1}, status_code=201, headers={"x-own": "1"}),
    "html": lambda: HTMLResponse("<p>"),
    "redirect": lambda: RedirectResponse("/elsewhere"),
    "response": lambda: Response(b"raw", status_code=418, media_type="image/png"),
    "stream": lambda: StreamingResponse(iter(["a", "b"]), media_type="text/event-stream"),
    "unencodable": lambda: {"f": object},
    "generator": lambda: (number for number in range(3)),
}


@serve.deployment
class Returns:
    async def __call__(self, request: Any) -> Any:
        return RETURNS[request.query_params["what"]]()


@pytest.fixture(scope="module")
def returns(instance: Instance) -> App:
    return instance.run(Returns.bind(), name="returns")


@pytest.mark.parametrize(
    ("what", "content_type", "body"),
    [
        ("none", "text/plain", b""),
        ("bytes", "text/plain", b"\x00\xff"),
        ("text", "text/plain; charset=utf-8", "grüße".encode()),
        ("empty", "text/plain; charset=utf-8", b""),
        ("dict", "application/json", b'{"a":[1,2.5,null,true],"b":"c"}'),
        ("list", "application/json", b'[1,"two"]'),
        ("tuple", "application/json", b'["body",404]'),
        ("set", "application/json", b"[1]"),
        ("int", "application/json", b"7"),
        ("bool", "application/json", b"true"),
        ("enum", "application/json", b'"red"'),
        ("date", "application/json", b'"2026-01-02T03:04:05"'),
        ("dataclass", "application/json", b'{"x":1,"y":2}'),
        ("pydantic", "application/json", b'{"name":"m","point":{"x":1,"y":2}}'),
        ("array", "application/json", b"[[1,2],[3,4]]"),
        ("scalar", "application/json", b"0.5"),
        ("nested", "application/json", b'{"prediction":3,"scores":[0.25,0.75]}'),
        ("exception", "application/json", b'{"error":"told"}'),
    ],
)
def test_values_are_converted(returns: App, what: str, content_type: str, body: bytes) -> None:
    reply = returns.get(f"?what={what}")
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"] == content_type


def test_json_holds_any_text(returns: App) -> None:
    assert returns.get("?what=umlauts").json() == {"ä": "ö"}


@differs("content-length")
def test_content_length_is_given(returns: App) -> None:
    assert returns.get("?what=text").headers["content-length"] == str(len("grüße".encode()))


def test_responses_pass_as_they_are(returns: App) -> None:
    reply = returns.get("?what=json")
    assert (reply.status, reply.body, reply.headers["x-own"]) == (201, b'{"a":1}', "1")
    reply = returns.get("?what=html")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    reply = returns.get("?what=redirect")
    assert (reply.status, reply.headers["location"]) == (307, "/elsewhere")
    reply = returns.get("?what=response")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (418, b"raw", "image/png")
    reply = returns.get("?what=stream")
    assert (reply.status, reply.body) == (200, b"ab")
    assert reply.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("what", ["generator", "unencodable"])
def test_what_cannot_be_converted_is_500_and_the_next_works(returns: App, what: str) -> None:
    assert returns.get(f"?what={what}").status == 500
    assert returns.get("?what=int").json() == 7
