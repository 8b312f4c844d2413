"""An OpenAPI 3.1 document of one deployment, from the annotations of its entry (surface of `/-/schema/<app>`).

Schemas are pydantic's; only their home changes, from `$defs` to `#/components/schemas`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from inspect import Parameter
from typing import Any, get_origin

from pydantic import PydanticUserError, TypeAdapter
from starlette.responses import Response

from eagleray.replica.typed.annotations import item_of, readable, result_of
from eagleray.replica.typed.arguments import JSON, Argument, TypedEntry, schema_of
from eagleray.serve.annotations import UnusableAnnotation

_HOME = "#/components/schemas/"
_ERROR = "RequestRefused"
_ERROR_SCHEMA = {
    "type": "object",
    "title": _ERROR,
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
                "required": ["loc", "msg", "type"],
            },
        }
    },
    "required": ["detail"],
}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_STREAMS = (Iterator, AsyncIterator, Generator, AsyncGenerator)


def describe(
    title: str, description: str, path: str, entry: TypedEntry | None, function: Callable[..., Any] | None
) -> dict[str, Any]:
    """The document of the deployment at `path`. `entry` is None when `function` takes requests as they are."""
    schemas: dict[str, Any] = {}
    annotation = Parameter.empty if function is None else result_of(function)
    if entry is not None and entry.batched:
        annotation = item_of(annotation)
    responses: dict[str, Any] = {"200": {"description": "OK", **_result(annotation, schemas)}}
    operation: dict[str, Any] = {"summary": title, "responses": responses}
    if description:
        operation["description"] = description
    operations = {"post": operation}
    if entry is None:
        operations["get"] = dict(operation)
    else:
        schemas[_ERROR] = _ERROR_SCHEMA
        refused = {JSON: {"schema": {"$ref": _HOME + _ERROR}}}
        for status, what in (
            ("400", "Not decodable"),
            ("415", "Unsupported content type"),
            ("422", "Not valid"),
        ):
            responses[status] = {"description": what, "content": refused}
        members = _hoisted(schema_of(entry.members), schemas)
        if entry.in_query:
            operations["get"] = {**operation, "parameters": _parameters(entry.arguments, members)}
        operations["post"] = {**operation, **_body(entry, members)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": {path: operations},
    }
    if schemas:
        document["components"] = {"schemas": schemas}
    return document


def _body(entry: TypedEntry, members: dict[str, Any]) -> dict[str, Any]:
    """`requestBody`, and `parameters` where members of the object may also be in the query."""
    properties: dict[str, Any] = members.get("properties", {})
    content: dict[str, Any] = {}
    only = entry.only
    if only is not None:
        for media in only.accepts:
            content[media] = _content(media, properties.get(only.name, {}))
        return {"requestBody": {"required": only.required and not only.in_query, "content": content}}
    content[JSON] = {"schema": members or {"type": "object"}}
    described: dict[str, Any] = {"requestBody": {"required": not entry.in_query, "content": content}}
    if entry.raw is not None:
        for media in entry.raw.accepts:
            content.setdefault(media, _BINARY)
    from_query = [one for one in entry.arguments if one.in_query]
    if from_query:
        described["parameters"] = _parameters(from_query, members, optional=True)
    return described


def _content(media: str, schema: Any) -> dict[str, Any]:
    if media == JSON:
        return {"schema": schema}
    return {"schema": {"type": "string"}} if media.startswith("text/") else _BINARY


def _parameters(
    arguments: list[Argument], members: dict[str, Any], *, optional: bool = False
) -> list[dict[str, Any]]:
    properties: dict[str, Any] = members.get("properties", {})
    return [
        {
            "name": one.name,
            "in": "query",
            "required": one.required and not optional,
            "schema": properties.get(one.name, {}),
        }
        for one in arguments
    ]


def _result(annotation: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The content of the answer, as far as the annotation of what is returned tells."""
    if annotation in (Parameter.empty, Any, object, None, type(None)) or get_origin(annotation) in _STREAMS:
        return {}
    if annotation in (str, bytes):
        return {"content": {"text/plain": {"schema": {"type": "string"}} if annotation is str else _BINARY}}
    if isinstance(annotation, type) and issubclass(annotation, Response):
        return {}
    try:
        schema = schema_of(TypeAdapter(readable(annotation)), "serialization")
    except (PydanticUserError, UnusableAnnotation, NameError, TypeError, AttributeError):
        return {}  # what is returned is the user's business; it only cannot be described
    return {"content": {JSON: {"schema": _hoisted(schema, schemas)}}}


def _hoisted(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema without `$defs`, which move to `schemas`; under another name where theirs is taken."""
    definitions: dict[str, Any] = dict(schema.pop("$defs", {}))
    names: dict[str, str] = {}
    for name, definition in definitions.items():
        free = name
        settled = _renamed(definition, {})
        while schemas.get(free, settled) != settled:
            free += "-Input"
        names[name] = free
    for name, definition in definitions.items():
        schemas[names[name]] = _renamed(definition, names)
    renamed: dict[str, Any] = _renamed(schema, names)
    return renamed


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _renamed(value, names) for key, value in schema.items()}
    ref = found.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        found["$ref"] = _HOME + names.get(ref.removeprefix("#/$defs/"), ref.removeprefix("#/$defs/"))
    mapping = found.get("mapping")  # of a discriminator
    if isinstance(mapping, dict):
        for key, value in mapping.items():
            if isinstance(value, str) and value.startswith("#/$defs/"):
                mapping[key] = _HOME + names.get(
                    value.removeprefix("#/$defs/"), value.removeprefix("#/$defs/")
                )
    return found
