"""msgspec's Structs as parameters: by msgspec's own decoder where a body is one, as part of others for pydantic."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from eagleray.replica.typed.media import RequestRefused, refuse

_AT = re.compile(r"^(?P<what>.*) - at `(?:key in )?\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


class StructType:
    """Lets pydantic read a Struct that is part of something else; used in `Annotated[Any, StructType(kind)]`."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.convert)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return struct_schema(self.kind)

    def convert(self, value: Any) -> Any:
        """From JSON's lists and dicts. Raises what pydantic turns into an error with its place."""
        try:
            return msgspec.convert(value, self.kind)
        except msgspec.ValidationError as error:
            raise PydanticCustomError("struct_type", "{reason}", {"reason": str(error)}) from None


def struct_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a Struct, whole: other Structs in it stand where they are used, unless they recur."""
    try:
        schema: dict[str, Any] = msgspec.json.schema(kind)
    except TypeError:  # a type or a default that JSON schema has no words for
        return {}
    definitions: dict[str, Any] = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(schema, definitions, ())
    return inlined


def _inlined(schema: Any, definitions: dict[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions, within) for one in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        return {} if name in within else _inlined(definitions[name], definitions, (*within, name))
    return {key: _inlined(value, definitions, within) for key, value in schema.items()}


class StructReader:
    """Decodes a body that is one Struct."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def read(self, body: bytes) -> Any:
        """Raises RequestRefused."""
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise _refusal_of(str(error)) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise refuse(400, "json_invalid", f"Invalid JSON: {error}") from None


def _refusal_of(message: str) -> RequestRefused:
    """msgspec says where in its text: "Expected `int`, got `str` - at `$.points[0].x`"."""
    found = _AT.match(message)
    if found is None:
        return refuse(422, "struct_type", message)
    steps = [
        name or (int(index) if index.isdigit() else index) for name, index in _STEP.findall(found["path"])
    ]
    return refuse(422, "struct_type", found["what"], ("body", *steps))
