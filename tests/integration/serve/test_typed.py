"""Typed requests and `/-/schema` through a whole instance, and code that travels by value with its types."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from tests.ports import free_port

from eagleray import serve

fastapi = FastAPI(title="Own")


class Item(BaseModel):
    """A thing."""

    name: str
    parent: Item | None = None


class Packed(msgspec.Struct):
    item_id: int


class Movie(TypedDict):
    title: str


@serve.deployment
class Several:
    """Adds up."""

    async def __call__(
        self, item: Item, packed: Packed, x: npt.NDArray[np.float32], n: int = 1
    ) -> list[Item]:
        return [item] * n


@serve.deployment
class Words:
    def __call__(self, word: str, times: list[int] | None = None) -> str:
        return word * sum(times or [1])


@serve.deployment
class Film:
    def __call__(self, movie: Movie) -> Movie:
        return movie


@serve.deployment
class Untyped:
    async def __call__(self, request: Any) -> str:
        return "untyped"


@serve.deployment
@serve.ingress(fastapi)
class Views:
    @fastapi.get("/view")
    def view(self) -> str:
        return "view"


async def plain_asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asgi"})


@serve.deployment
@serve.ingress(plain_asgi)
class Asgi: ...


APPS = {"several": Several, "words": Words, "film": Film, "untyped": Untyped, "views": Views, "asgi": Asgi}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = free_port()
    serve.start(http_options={"port": number, "root_path": "/root"})
    serve.run_many([serve.RunTarget(app.bind(), name, f"/{name}") for name, app in APPS.items()])
    serve.run(Words.bind(), name="hidden", route_prefix=None)
    yield number
    serve.shutdown()


def get(port: int, path: str, body: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"} if body else {}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def schema(port: int, app: str) -> dict[str, Any]:
    status, body = get(port, f"/-/schema/{app}")
    assert status == 200, body
    document: dict[str, Any] = json.loads(body)
    assert document["openapi"].startswith("3.1")
    return document


def test_the_document_of_several_parameters(port: int) -> None:
    document = schema(port, "several")
    (path,) = document["paths"]
    assert path == "/root/several"
    assert set(document["paths"][path]) == {"post"}
    post = document["paths"][path]["post"]
    assert (post["summary"], post["description"]) == ("Several", "Adds up.")
    content = post["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-npy", "application/octet-stream"}
    body = content["application/json"]["schema"]
    assert body["required"] == ["item", "packed", "x"]
    assert body["properties"]["item"] == {"$ref": "#/components/schemas/Item"}
    assert body["properties"]["packed"]["properties"] == {"item_id": {"type": "integer"}}
    assert [one["name"] for one in post["parameters"]] == ["n"] and not post["parameters"][0]["required"]
    assert post["responses"]["200"]["content"]["application/json"]["schema"]["items"]["$ref"].startswith(
        "#/components/schemas/Item"
    )
    for name in _references(document):
        assert name in document["components"]["schemas"]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            assert value["$ref"].startswith("#/components/schemas/")
            yield value["$ref"].rpartition("/")[2]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def test_the_documents_of_others(port: int) -> None:
    words = schema(port, "words")["paths"]["/root/words"]
    assert [(one["name"], one["required"]) for one in words["get"]["parameters"]] == [
        ("word", True),
        ("times", False),
    ]
    assert words["get"]["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    film = schema(port, "film")["paths"]["/root/film"]["post"]
    assert film["requestBody"]["required"] and "application/json" in film["requestBody"]["content"]
    assert set(schema(port, "untyped")["paths"]["/root/untyped"]) == {"get", "post"}
    assert schema(port, "views")["info"]["title"] == "Own" and "/view" in schema(port, "views")["paths"]
    assert get(port, "/-/schema/asgi")[0] == 404
    for unknown in ("nobody", "hidden", "", "several/more"):
        assert get(port, f"/-/schema/{unknown}")[0] == 404
    assert get(port, "/-/schema/words", b"{}")[0] == 200


def test_requests(port: int) -> None:
    assert get(port, "/words?word=a&times=1&times=2") == (200, b"aaa")
    assert get(port, "/film", b'{"title": "t"}') == (200, b'{"title":"t"}')
    assert get(port, "/film", b'{"title": 1}')[0] == 422
    body = {"item": {"name": "a", "parent": {"name": "b"}}, "packed": {"item_id": 1}, "x": [1]}
    item = {"name": "a", "parent": {"name": "b", "parent": None}}
    status, reply = get(port, "/several?n=2", json.dumps(body).encode())
    assert status == 200 and json.loads(reply) == [item, item]


SCRIPT = """
from __future__ import annotations
import sys, urllib.request
from dataclasses import dataclass
from pydantic import BaseModel
from eagleray import serve

@dataclass
class Point:
    x: int

class Line(BaseModel):
    points: list[Point]

@serve.deployment
class Length:
    async def __call__(self, line: Line, scale: int = 1) -> int:
        return scale * (line.points[-1].x - line.points[0].x)

@serve.deployment
def double(point: Point) -> int:
    return 2 * point.x

serve.start(http_options={"port": int(sys.argv[1])})
serve.run(Length.bind(), name="length", route_prefix="/length")
serve.run(double.bind(), name="double", route_prefix="/double")
for path, body in ("length", b'{"line": {"points": [{"x": 1}, {"x": 4}]}}'), ("double", b'{"x": 4}'):
    url = f"http://127.0.0.1:{sys.argv[1]}/{path}"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    print(urllib.request.urlopen(request).read().decode())
"""


def test_types_of_a_script_travel_with_its_code(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, str(script), str(free_port())], capture_output=True, text=True, timeout=60
    )
    assert result.stdout.split() == ["3", "8"], result.stderr


FIELDS = """
from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
import urllib.request
from typing import TYPE_CHECKING, NamedTuple, Optional, Required, TypedDict

from pydantic import BaseModel

from eagleray import serve

if TYPE_CHECKING:
    from decimal import Decimal


class Inner(BaseModel):
    x: Optional[int]

class House(TypedDict, total=False):
    area: Required[int]
    built: dt.date
    inner: Inner

@dataclasses.dataclass
class Data:
    when: Optional[dt.date] = None
    inner: Optional[Inner] = None

class Pair(NamedTuple):
    when: dt.date

class Unknown(TypedDict):
    price: Decimal

async def house(x: House): return type(x["inner"]).__name__
async def data(x: Data): return type(x.when).__name__
async def pair(x: Pair): return type(x.when).__name__
async def unknown(x: Unknown): return type(x).__name__

serve.start(http_options={"port": int(sys.argv[1])})
WHOLE = {"area": 1, "built": "2020-01-01", "inner": {"x": 1}}
BODIES = {house: WHOLE, data: {"when": "2020-01-01", "inner": {"x": 1}}, pair: {"when": "2020-01-01"},
          unknown: {"price": 1}}
for entry, body in BODIES.items():
    name = entry.__name__
    serve.run(serve.deployment(entry).bind(), name=name, route_prefix="/" + name)
    url = f"http://127.0.0.1:{sys.argv[1]}/{name}"
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=20) as answer:
        print(answer.read().decode())
serve.shutdown()
"""


def test_fields_of_classes_of_a_script_travel_with_its_code(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FIELDS)
    result = subprocess.run(
        [sys.executable, str(script), str(free_port())], capture_output=True, text=True, timeout=60
    )
    expected = ["Inner", "date", "date", "Request"]
    assert result.stdout.split() == expected, result.stderr
