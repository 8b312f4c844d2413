"""From what user code returns to an HTTP answer (surface 3.2): content type and bytes.

Plain values (dicts, lists, strings, numbers) go straight to msgspec. Anything else is first turned into plain values
by the rules of FastAPI's `jsonable_encoder`, which are kept here without importing it: FastAPI would cost a replica
that does not use it 30 MB. numpy and pandas are recognised only when the user has imported them.

NaN and infinities become `null`, as in JavaScript, because JSON has no such numbers.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from re import Pattern
from types import GeneratorType
from typing import Any
from uuid import UUID

import msgspec
from pydantic import BaseModel, SecretBytes, SecretStr

from eagleray.wire.messages import Headers

TEXT: Headers = [(b"content-type", b"text/plain; charset=utf-8")]
BYTES: Headers = [(b"content-type", b"text/plain")]
JSON: Headers = [(b"content-type", b"application/json")]

_encode_json = msgspec.json.Encoder().encode
_SCALARS = frozenset((str, int, float, bool, type(None)))
_KEYS = frozenset((str, int))


def encode_result(value: Any) -> tuple[Headers, bytes]:
    """Headers and body for a returned value. Raises TypeError (or ValueError) for what JSON cannot say."""
    kind = type(value)
    if kind is str:
        return TEXT, value.encode()
    if kind is bytes:
        return BYTES, value
    if value is None:
        return BYTES, b""
    if isinstance(value, str):
        return TEXT, str.encode(value)
    if isinstance(value, bytes):
        return BYTES, bytes(value)
    return JSON, encode_json(value)


def encode_json(value: Any) -> bytes:
    """Compact JSON of anything that FastAPI could turn into JSON."""
    if _is_plain(value):
        return _encode_json(value)
    if isinstance(value, BaseModel) and type(value).model_dump is BaseModel.model_dump:
        # The same text in one step instead of two: 1 us instead of 3 for a small model.
        return value.__pydantic_serializer__.to_json(value, by_alias=True)
    return _encode_json(jsonable(value))


def _is_plain(value: Any) -> bool:
    """Whether msgspec writes `value` as `json.dumps` would. Looks at whole containers at once, at C speed."""
    kind = type(value)
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in _SCALARS
    if _SCALARS.issuperset(map(type, value)):
        return True
    return all(map(_is_plain, value))


def jsonable(value: Any) -> Any:
    """`value` as dicts with string keys, lists, strings, numbers, booleans and None.

    Raises ValueError for an object that has neither a rule here, nor items, nor attributes.
    """
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, bool | float | int):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {_key(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque | GeneratorType):
        return [jsonable(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    for base in type(value).__mro__:
        rule = _RULES.get(base)
        if rule is not None:
            return rule(value)
    found, plain = _scientific(value)
    return jsonable(plain) if found else _by_contents(value)


def _key(key: Any) -> str:
    plain = jsonable(key)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int | float):
        text: bytes = _encode_json(plain)
        return text.decode()
    raise ValueError(f"a JSON key cannot be made of {type(key).__name__}")


def _scientific(value: Any) -> tuple[bool, Any]:
    """Rules for numpy and pandas, when the user's code has them loaded."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return True, value.tolist()
        if isinstance(value, numpy.generic):
            return True, value.item()
    pandas: Any = sys.modules.get("pandas")
    frame: Any = getattr(pandas, "DataFrame", None)  # None while pandas itself is being imported
    if frame is not None and isinstance(value, frame):
        return True, frame.to_dict(value, orient="records")
    return False, None


def _by_contents(value: Any) -> Any:
    """The last resort of FastAPI: an object is what its items, or its attributes, are."""
    if isinstance(value, Iterator):
        raise ValueError(f"{type(value).__name__} is not JSON serialisable")
    try:
        return jsonable(dict(value))
    except (TypeError, ValueError) as error:
        try:
            # SQLAlchemy's rows carry their own state in `_sa_...` attributes, which is nobody's data.
            return jsonable({name: item for name, item in vars(value).items() if not name.startswith("_sa_")})
        except TypeError:
            raise ValueError(f"{type(value).__name__} is not JSON serialisable: {error}") from None


def _decimal(value: Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


def _isoformat(value: datetime.date | datetime.time) -> str:
    return value.isoformat()


_RULES: dict[type, Callable[[Any], Any]] = {
    bytes: bytes.decode,
    datetime.datetime: _isoformat,
    datetime.date: _isoformat,
    datetime.time: _isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    Decimal: _decimal,
    UUID: str,
    PurePath: str,
    Pattern: lambda value: value.pattern,
    IPv4Address: str,
    IPv4Interface: str,
    IPv4Network: str,
    IPv6Address: str,
    IPv6Interface: str,
    IPv6Network: str,
    SecretStr: str,
    SecretBytes: str,
    BaseException: str,
    msgspec.Struct: lambda value: msgspec.to_builtins(value, enc_hook=jsonable),
}
