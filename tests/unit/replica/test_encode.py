"""The conversion table of surface 3.2, with FastAPI's own encoder as the judge."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import uuid
from collections import OrderedDict, deque, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.encoders import jsonable_encoder
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from eagleray.replica.encode import encode_json, encode_result


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        (None, b"text/plain", b""),
        (b"\x00raw", b"text/plain", b"\x00raw"),
        ("häh", b"text/plain; charset=utf-8", "häh".encode()),
        ("", b"text/plain; charset=utf-8", b""),
        ({"a": 1, "b": [True, None]}, b"application/json", b'{"a":1,"b":[true,null]}'),
        ([], b"application/json", b"[]"),
        (1.5, b"application/json", b"1.5"),
        (True, b"application/json", b"true"),
        ((1, "x"), b"application/json", b'[1,"x"]'),
        (2**70, b"application/json", str(2**70).encode()),
        ("text", b"text/plain; charset=utf-8", b"text"),
    ],
)
def test_table(value: Any, content_type: bytes, body: bytes) -> None:
    assert encode_result(value) == ([(b"content-type", content_type)], body)


class Color(Enum):
    RED = "red"
    NESTED = (1, 2)


class Level(IntEnum):
    LOW = 1


class Text(str):
    pass


class Model(BaseModel):
    name: str = Field(serialization_alias="Name")
    when: datetime.datetime
    child: dict[str, Any] = {}


@dataclasses.dataclass
class Point:
    x: int
    _hidden: Decimal


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self.when = datetime.date(2020, 1, 2)


Pair = namedtuple("Pair", "left right")
NOW = datetime.datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value",
    [
        {"when": NOW, "naive": NOW.replace(tzinfo=None), "day": NOW.date(), "time": NOW.time()},
        {"delta": datetime.timedelta(minutes=1.5), "bytes": b"text", "uuid": uuid.UUID(int=5)},
        [Decimal("1.50"), Decimal("2"), Decimal("1E+3")],
        {
            "color": Color.RED,
            "level": Level.LOW,
            "text": Text("x"),
            Text("key"): 1,
            3: 4,
            None: 5,
            True: 6,
            1.5: 7,
        },
        [Color.RED, Level.LOW],
        {Color.RED: 1},
        Model(name="n", when=NOW, child={"x": [1]}),
        {"models": [Model(name="n", when=NOW)]},
        Point(1, Decimal("2.5")),
        [{1, 2}, frozenset((3,)), deque((4,)), Pair(1, b"x"), OrderedDict(a=1)],
        {
            "path": Path("/a/b"),
            "ip": IPv4Address("1.2.3.4"),
            "re": re.compile("a+"),
            "secret": SecretStr("s"),
        },
        Plain(),
        {"generator": (i for i in range(0))},
    ],
    ids=lambda value: str(value)[:30],
)
def test_equals_fastapi(value: Any) -> None:
    if isinstance(value, dict) and "generator" in value:
        assert encode_json({"generator": (i for i in range(2))}) == b'{"generator":[0,1]}'
        return
    assert json.loads(encode_json(value)) == json.loads(json.dumps(jsonable_encoder(value)))


def test_numpy_and_exceptions() -> None:
    value = {
        "array": np.arange(4).reshape(2, 2),
        "scalar": np.float32(0.5),
        "bool": np.True_,
        "int": np.int64(7),
        np.int64(1): 2,
        "error": ValueError("why"),
    }
    assert json.loads(encode_json(value)) == {
        "array": [[0, 1], [2, 3]],
        "scalar": 0.5,
        "bool": True,
        "int": 7,
        "1": 2,
        "error": "why",
    }


def test_names_with_sa_are_data_in_dicts() -> None:
    assert encode_json({"_sample": 1, "x": {1}}) == b'{"_sample":1,"x":[1]}'


def test_numbers_that_json_lacks_become_null() -> None:
    assert encode_json([float("nan"), float("inf"), {1}]) == b"[null,null,[1]]"
    assert encode_json([float("nan"), 1.0]) == b"[null,1.0]"


@pytest.mark.parametrize(
    "value", [object(), {"a": object()}, {(1, 2): 3}, iter([1]), b"\xff".join, [b"\xff"]]
)
def test_what_json_cannot_say_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_json(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(json_values)
def test_plain_values_read_back_equal(value: Any) -> None:
    assert json.loads(encode_json(value)) == json.loads(json.dumps(value))
