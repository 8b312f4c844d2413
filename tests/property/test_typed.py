"""Whatever a client sends, a typed entry calls its function with what the annotation says, or refuses; nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from tests.unit.replica.typed.asking import entry_of, request

from eagleray.replica.typed import RequestRefused, TypedEntry


@dataclass
class Point:
    x: float
    y: int = 0


class Movie(TypedDict):
    title: str
    tags: list[str]


class Node(BaseModel):
    name: Annotated[str, Field(max_length=5)]
    points: list[Point] = []
    children: list[Node] = []


class Packed(msgspec.Struct):
    n: int
    inner: Packed | None = None
    more: dict[str, list[float]] = {}


def single(annotation: Any) -> TypedEntry:
    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": annotation}
    return entry_of(function)


def several(
    point: Point,
    image: bytes,
    word: Literal["a", "b"] = "a",
    n: int | None = None,
    *,
    xs: list[float] | None = None,
) -> Any:
    assert isinstance(point, Point) and isinstance(image, bytes)
    assert n is None or type(n) is int
    assert xs is None or all(type(x) is float for x in xs)
    return point, image, word, n, xs


def array_beside(x: npt.NDArray[np.float32], scale: float = 1.0, name: str = "") -> Any:
    assert x.dtype == np.float32 and type(scale) is float and type(name) is str
    return x


CHECKS: list[tuple[Any, Callable[[Any], bool]]] = [
    (bytes, lambda value: type(value) is bytes),
    (str, lambda value: type(value) is str),
    (int, lambda value: type(value) is int),
    (dict[str, int], lambda value: all(type(one) is int for one in value.values())),
    (list[Point], lambda value: all(type(one) is Point for one in value)),
    (Movie, lambda value: type(value["title"]) is str and isinstance(value["tags"], list)),
    (Node, lambda value: type(value) is Node),
    (Packed, lambda value: type(value) is Packed),
    (list[Packed], lambda value: all(type(one) is Packed for one in value)),
    (np.ndarray, lambda value: value.dtype.kind in "biufc"),
    (npt.NDArray[np.float32], lambda value: value.dtype == np.float32),
    (npt.NDArray[np.int8], lambda value: value.dtype == np.int8),
    (list[npt.NDArray[np.float64]] | None, lambda value: value is None or isinstance(value, list)),
]
SINGLES = [(single(annotation), check) for annotation, check in CHECKS]
ENTRIES = [*SINGLES, (entry_of(several), lambda _: True), (entry_of(array_beside), lambda _: True)]

NAMES = st.sampled_from(
    ["x", "y", "n", "title", "tags", "name", "point", "points", "value", "image", "xs", "inner", "more"]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(2**70),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
NPY = st.builds(
    lambda shape, dtype, order: _npy(np.zeros(shape, dtype, order)),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(["f4", ">f8", "i1", "?", "U3", "c8", "M8[s]", "f2"]),
    st.sampled_from("CF"),
)
BODIES = st.one_of(
    st.binary(max_size=64),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.lists(JSON_VALUES).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    NPY,
    st.builds(
        lambda body, cut, noise: body[:cut] + noise + body[cut:],
        NPY,
        st.integers(0, 140),
        st.binary(max_size=3),
    ),
)
CONTENT_TYPES = [
    "application/json",
    "application/x-npy",
    "application/octet-stream; dtype=float32",
    "application/octet-stream; dtype=bool; shape=2,2",
    "application/octet-stream;shape=0,9999999999999999",
    "text/plain; charset=utf-16",
    "a/b+json",
]
TYPES = st.one_of(
    st.none(), st.sampled_from(CONTENT_TYPES), st.text(st.characters(max_codepoint=255), max_size=30)
)
QUERIES = st.one_of(
    st.just(""),
    st.text(st.characters(max_codepoint=255), max_size=30),
    st.lists(st.tuples(NAMES, st.text(st.characters(max_codepoint=127), max_size=5))).map(
        lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
    ),
)


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(ENTRIES), BODIES, TYPES, QUERIES, st.sampled_from(["GET", "POST", "ODD"]))
@example(SINGLES[2], b"1" * 5000, None, "", "POST")
@example(SINGLES[6], b'{"name":"\\ud800"}', None, "", "POST")
@example(SINGLES[10], _npy(np.zeros(0, "c8")), "application/x-npy", "", "POST")
@example(SINGLES[7], b'{"n":' + b"9" * 400 + b"}", None, "", "POST")
def test_a_request_is_taken_as_annotated_or_refused(
    entry: tuple[TypedEntry, Callable[[Any], bool]],
    body: bytes,
    content_type: str | None,
    query: str,
    method: str,
) -> None:
    typed, check = entry
    try:
        result = typed(request(body, content_type=content_type, query=query, method=method))
    except RequestRefused as refusal:
        assert refusal.status in (400, 415, 422)
        told = json.loads(refusal.encode())["detail"]
        assert told and all(set(one) == {"loc", "msg", "type"} for one in told)
        assert len(refusal.encode()) < 3000 + 40 * (len(body) + len(query))
    else:
        assert check(result)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_an_array_is_the_same_in_all_three_forms(rows: list[list[float]]) -> None:
    array = np.array(rows, np.float32)
    typed = single(npt.NDArray[np.float32])
    raw = f"application/octet-stream; shape={len(rows)},3"
    for body, content_type in (
        (json.dumps(rows).encode(), "application/json"),
        (_npy(array), "application/x-npy"),
        (array.tobytes(), raw),
    ):
        np.testing.assert_array_equal(typed(request(body, content_type=content_type)), array)
