"""What each annotation makes of a body or a query string, and what it refuses."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, Field, field_validator
from starlette.requests import Request
from tests.unit.replica.typed.asking import ask, entry_of, refused

from eagleray.replica.typed import typed_entry

JSON = "application/json"


@dataclass
class Point:
    x: float
    y: float = 0.0


class Shape(BaseModel):
    name: str
    points: list[Point] = Field(default_factory=list, max_length=3)

    @field_validator("name")
    @classmethod
    def not_blank(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("blank")
        return name


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Library(TypedDict):
    movies: list[Movie]


class Rating(msgspec.Struct):
    stars: int
    tags: list[str] = []
    inner: list[Rating] = []


class Colour(enum.Enum):
    RED = "red"


def given(annotation: Any) -> Callable[..., Any]:
    """A function with one parameter of this annotation, which it returns."""

    def function(value: Any) -> Any:
        return value

    function.__annotations__ = {"value": annotation}
    return function


@pytest.mark.parametrize(
    ("annotation", "body", "value"),
    [
        (dict, {"a": [1]}, {"a": [1]}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (list[int], [1, "2"], [1, 2]),
        (list[Any], [1, None], [1, None]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (int, 7, 7),
        (float, 1, 1.0),
        (bool, True, True),
        (str, "text", "text"),
        (Optional[int], None, None),  # noqa: UP045
        (int | None, 5, 5),
        (int | str, "a", "a"),
        (Literal["a", "b"], "a", "a"),
        (Colour, "red", Colour.RED),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (Annotated[int, Field(gt=0)], 1, 1),
        (Point, {"x": 1}, Point(1.0)),
        (list[Point], [{"x": 1, "y": 2}], [Point(1.0, 2.0)]),
        (Shape, {"name": "s", "points": [{"x": 1}]}, Shape(name="s", points=[Point(1.0)])),
        (Movie, {"title": "t"}, {"title": "t"}),
        (Library, {"movies": [{"title": "t", "year": 1}]}, {"movies": [{"title": "t", "year": 1}]}),
        (Rating, {"stars": 3, "inner": [{"stars": 1}]}, Rating(3, [], [Rating(1)])),
        (list[Rating], [{"stars": 3}], [Rating(3)]),
        (dict[str, Rating] | None, {"a": {"stars": 3}}, {"a": Rating(3)}),
    ],
    ids=str,
)
def test_json_is_decoded_to_the_annotation(annotation: Any, body: Any, value: Any) -> None:
    result = ask(given(annotation), json_body=body)
    assert result == value and type(result) is type(value)
    assert ask(given(annotation), json_body=body, content_type="application/ld+json; charset=utf-8") == value


@pytest.mark.parametrize(
    ("annotation", "body", "wrong"),
    [
        (list[int], [1, "a", None], [("int_parsing", ["body", 1]), ("int_type", ["body", 2])]),
        (dict, [], [("dict_type", ["body"])]),
        (Point, {}, [("missing", ["body", "x"])]),
        (Shape, {"name": " ", "points": [{"x": "a"}]}, [
            ("value_error", ["body", "name"]),
            ("float_parsing", ["body", "points", 0, "x"]),
        ]),
        (Library, {"movies": [{}]}, [("missing", ["body", "movies", 0, "title"])]),
        (Rating, {"stars": "x"}, [("struct_type", ["body", "stars"])]),
        (Rating, {"stars": 1, "inner": [{"stars": 1}, {}]}, [("struct_type", ["body", "inner", 1])]),
        (list[Rating], [{"stars": 1}, {}], [("struct_type", ["body", 1])]),
        (str, {"text": "a"}, [("string_type", ["body"])]),
        (Annotated[int, Field(gt=0)], 0, [("greater_than", ["body"])]),
    ],
    ids=str,
)  # fmt: skip
def test_a_mismatch_is_422_and_says_where(annotation: Any, body: Any, wrong: list[Any]) -> None:
    assert refused(given(annotation), json_body=body) == (422, wrong)


@pytest.mark.parametrize("annotation", [dict, Point, Rating, list[Rating], int, Movie])
@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"stars":1} 2', b"{'a': 1}", b'{"a":' * 100_000])
def test_what_is_not_json_is_400(annotation: Any, body: bytes) -> None:
    assert refused(given(annotation), body, content_type=JSON) == (400, [("json_invalid", ["body"])])


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
@pytest.mark.parametrize("annotation", [dict, Point, Rating, int, list[str]])
def test_other_content_types_are_415_and_the_message_names_the_right_one(
    annotation: Any, content_type: str
) -> None:
    assert refused(given(annotation), b"1", content_type=content_type) == (415, [("content_type", ["body"])])


def test_a_compressed_body_is_415_but_bytes_are_taken_as_they_are() -> None:
    assert refused(given(dict), b"{}", content_type=JSON, content_encoding="gzip")[0] == 415
    assert refused(given(str), b"{}", content_encoding="gzip")[0] == 415
    assert ask(given(dict), b"{}", content_encoding="identity") == {}
    assert ask(given(bytes), b"{}", content_encoding="gzip") == b"{}"


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"{}"])
@pytest.mark.parametrize("content_type", [None, JSON, "image/png"])
def test_bytes_are_the_body(body: bytes, content_type: str | None) -> None:
    assert ask(given(bytes), body, content_type=content_type) == body
    assert ask(given(bytes | None), body, content_type=content_type) == body


def test_text_is_the_body_or_a_json_string() -> None:
    text = given(str)
    assert ask(text, "grüße".encode()) == "grüße"
    assert ask(text, "grüße".encode("latin-1"), content_type="text/plain; charset=ISO-8859-1") == "grüße"
    assert ask(text, b'"quoted"', content_type="text/plain") == '"quoted"'
    assert ask(text, b'"quoted"', content_type=JSON) == "quoted"
    assert ask(text, b"") == ""
    assert refused(text, b"\xff") == (400, [("text_invalid", ["body"])])
    assert refused(text, b"a", content_type="text/plain; charset=punycode") == (415, [("charset", ["body"])])
    assert refused(given(Annotated[str, Field(max_length=2)]), b"abc") == (
        422,
        [("string_too_long", ["body"])],
    )


# ---- query -----------------------------------------------------------------------------------------------------


def test_scalars_come_from_the_query_where_there_is_no_body() -> None:
    assert ask(given(str), method="GET", query="value=a%20b&other=1") == "a b"
    assert ask(given(int), method="GET", query="value=1&value=2") == 2
    assert ask(given(list[int]), method="GET", query="value=1&value=2") == [1, 2]
    assert ask(given(str), query="value=posted") == "posted"
    assert refused(given(int), method="GET", query="value=x") == (422, [("int_parsing", ["query", "value"])])
    assert refused(given(str), method="GET") == (422, [("missing", ["query", "value"])])
    assert refused(given(dict), method="GET", query="a=1") == (422, [("missing", ["body"])])
    assert refused(given(Point)) == (422, [("missing", ["body"])])


def several(house: Point, rooms: int, note: str = "none", tags: list[str] | None = None) -> Any:
    return house, rooms, note, tags


def test_several_parameters_are_members_of_an_object() -> None:
    body = {"house": {"x": 1}, "rooms": 2, "unknown": 1}
    assert ask(several, json_body=body) == (Point(1.0), 2, "none", None)
    assert ask(several, json_body={**body, "note": "n", "tags": ["t"]}) == (Point(1.0), 2, "n", ["t"])
    assert refused(several, json_body={"house": {}, "note": 1}) == (
        422,
        [
            ("missing", ["body", "house", "x"]),
            ("missing", ["body", "rooms"]),
            ("string_type", ["body", "note"]),
        ],
    )
    assert refused(several, json_body=[]) == (422, [("dict_type", ["body"])])
    assert refused(several, b"a=1", content_type="application/x-www-form-urlencoded")[0] == 415


def test_members_that_the_object_lacks_come_from_the_query() -> None:
    body = {"house": {"x": 1}}
    assert ask(several, json_body=body, query="rooms=3&tags=a&tags=b&x=y") == (
        Point(1.0),
        3,
        "none",
        ["a", "b"],
    )
    assert ask(several, json_body={**body, "rooms": 1}, query="rooms=3") == (Point(1.0), 1, "none", None)
    assert refused(several, json_body=body, query="rooms=x") == (422, [("int_parsing", ["query", "rooms"])])
    assert refused(several, json_body={}, query="rooms=1") == (422, [("missing", ["body", "house"])])
    assert refused(several, query="rooms=x") == (
        422,
        [("missing", ["body", "house"]), ("int_parsing", ["query", "rooms"])],
    )


def test_bytes_beside_scalars_of_the_query() -> None:
    def classify(image: bytes, threshold: float = 0.5) -> Any:
        return image, threshold

    assert ask(classify, b"\xff", content_type="image/png", query="threshold=0.7") == (b"\xff", 0.7)
    assert ask(classify, b"\xff", content_type="image/png") == (b"\xff", 0.5)
    assert ask(classify, json_body={"image": "abc"}) == (b"abc", 0.5)
    assert refused(classify, b"\xff", content_type="image/png", query="threshold=x") == (
        422,
        [("float_parsing", ["query", "threshold"])],
    )


def test_defaults_are_the_function_s_own() -> None:
    marker = object()

    def defaulted(point: Point = marker, /, *, scale: int = 2) -> Any:  # type: ignore[assignment]
        return point, scale

    assert ask(defaulted) == (marker, 2)
    assert ask(defaulted, json_body={"scale": 3}) == (marker, 3)
    assert ask(defaulted, json_body={"point": {"x": 1}}) == (Point(1.0), 2)


def test_the_request_beside_typed_parameters() -> None:
    def both(point: Point, request: Request) -> Any:
        return point, request.headers["x-user"]

    assert ask(both, json_body={"x": 1}, x_user="me") == (Point(1.0), "me")

    def by_position(point: Point, request: Request, /) -> Any:
        return point, request.method

    assert ask(by_position, json_body={"x": 1}) == (Point(1.0), "POST")


# ---- limits ----------------------------------------------------------------------------------------------------


def test_a_refusal_is_not_larger_than_the_request() -> None:
    status, wrong = refused(given(list[int]), json_body=["a"] * 5000)
    assert status == 422 and len(wrong) == 101 and wrong[-1] == ("too_many_errors", ["body"])
    status, wrong = refused(given(list[int]), json_body=["a"] * 20_000)
    assert (status, wrong) == (422, [("too_many_errors", ["body"])])


def test_a_validator_that_fails_otherwise_is_the_user_s_own_error() -> None:
    class Broken(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def fail(cls, value: int) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(given(Broken), json_body={"a": 1})


def test_errors_of_the_function_are_not_taken_for_the_client_s() -> None:
    def fails(point: Point) -> Any:
        Shape.model_validate({})

    with pytest.raises(ValueError, match="Shape"):
        ask(fails, json_body={"x": 1})


def test_what_is_returned_passes() -> None:
    async def later(value: int) -> int:
        return value

    result = ask(later, json_body=1)
    result.close()
    assert entry_of(later).only is not None
    assert typed_entry(lambda request: request) is None
