"""From a request to the arguments of a call: which parameter is made from what, decided once for each callable.

One parameter is the whole body; several are members of a JSON object. Without a body they come from the query string,
and so do members that the object does not have. Where the body is not JSON it is the one parameter that takes bytes or
an array, and the others come from the query. The rules for users are in docs/typed-requests.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any, NotRequired, Required
from urllib.parse import parse_qsl

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from typing_extensions import TypedDict

from eagleray.replica.typed.annotations import (
    bare,
    is_sequence,
    is_struct,
    item_of,
    mentions_request,
    parameters_of,
    readable,
    type_of,
    wants_request,
)
from eagleray.replica.typed.arrays import NPY, RAW, ArrayType, array_dtype
from eagleray.replica.typed.media import (
    Media,
    RequestRefused,
    check_encoding,
    missing,
    read_media,
    refusal_of,
    refuse,
    unsupported,
)
from eagleray.replica.typed.structs import StructReader
from eagleray.serve.annotations import UnusableAnnotation, field_type

JSON = "application/json"
_BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
"""Methods whose body, where there is one, has no agreed meaning (RFC 9110, section 9.3)."""
_WORDS = ("string", "integer", "number", "boolean", "null")
_CHARSETS = frozenset(
    ("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252", "utf-16")
)
"""Not all that Python knows: some of its codecs take quadratic time."""


def typed_entry(function: Callable[..., Any], *, batched: bool = False) -> TypedEntry | None:
    """What decodes requests for `function`; None when it wants Starlette's request.

    `batched`: its annotations are `list[T]` and each call brings one T. Raises UnusableAnnotation.
    """
    parameters = parameters_of(function)
    if all(one.annotation is Parameter.empty for one in parameters):
        return None
    arguments: list[Argument] = []
    requests: list[str] = []
    for place, parameter in enumerate(parameters):
        annotation = type_of(parameter, function)
        if batched and annotation is not Parameter.empty and not wants_request(annotation):
            annotation = item_of(annotation)
            if annotation is Parameter.empty:
                raise UnusableAnnotation(
                    f"'{parameter.name}' of a batched method is not annotated as `list[T]`"
                )
        if not wants_request(annotation):
            arguments.append(Argument(parameter, annotation))
        elif not place:
            return None
        elif mentions_request(annotation):
            requests.append(parameter.name)
        else:
            arguments.append(Argument(parameter, Any))
    positional = [one for one in parameters if one.kind is Parameter.POSITIONAL_ONLY]
    return TypedEntry(function, arguments, requests, positional, batched=batched)


class Argument:
    """One parameter that is decoded, as `annotation`. Raises UnusableAnnotation where pydantic cannot."""

    def __init__(self, parameter: Parameter, annotation: Any) -> None:
        core = bare(annotation)
        is_array, dtype = array_dtype(core)
        self.name = parameter.name
        self.required = parameter.default is Parameter.empty
        self.keyword_only = parameter.kind is Parameter.KEYWORD_ONLY
        self.many = is_sequence(annotation)
        self.is_bytes = core is bytes
        self.is_text = core is str
        self.array = ArrayType(dtype) if is_array else None
        self.struct = _struct_reader(annotation, parameter.name) if is_struct(annotation) else None
        self.type = readable(annotation)
        self.adapter: TypeAdapter[Any] = _adapter(self.type, parameter.name)
        self.in_query = not self.is_bytes and _is_scalar(schema_of(self.adapter))

    @property
    def accepts(self) -> tuple[str, ...]:
        """The content types that a body may have which is this value alone."""
        if self.is_bytes:
            return (RAW,)
        if self.is_text:
            return ("text/plain", JSON)
        return (JSON, NPY, RAW) if self.array is not None else (JSON,)

    def read(self, body: bytes, media: Media) -> Any:
        """A body that is this value alone. Raises RequestRefused, ValidationError or PydanticCustomError."""
        if self.is_bytes:
            return self.adapter.validate_python(body)
        if media.encoding:
            check_encoding(media)
        if self.is_text and (media.essence == "" or not media.is_json):
            return self.adapter.validate_python(_decode_text(body, media))
        if self.array is not None and media.essence in (NPY, RAW):
            return self.array.from_bytes(body, media)
        if not media.is_json:
            raise unsupported(media, self.accepts)
        return self.adapter.validate_json(body) if self.struct is None else self.struct.read(body)


class TypedEntry:
    """Stands in for the entry of a deployment: takes Starlette's request, calls `function` with what it holds."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: list[Argument],
        requests: list[str],
        positional: list[Parameter],
        *,
        batched: bool,
    ) -> None:
        raw = [one for one in arguments if one.is_bytes or one.array is not None]
        self.function = function
        self.batched = batched
        self.arguments = arguments
        self.only = arguments[0] if len(arguments) == 1 else None
        """The parameter that is the whole body."""
        self.raw = raw[0] if len(raw) == 1 else None
        """The one parameter that a body may be which is not JSON."""
        self.in_query = all(one.in_query for one in arguments)
        """Whether a request needs no body."""
        self.members = _members(arguments)
        """All parameters as members of one object."""
        self._some = _members(arguments, optional=True)
        self._by_name = {one.name: one for one in arguments}
        self._requests = requests
        self._positional = positional
        self._sole = None if self.only is None or self.only.keyword_only or requests else self.only

    def __call__(self, request: Request) -> Any:
        """What the user's function returns. Raises RequestRefused, and whatever the function raises."""
        body: bytes = request._body
        sole = self._sole
        if body and sole is not None:
            return self.function(self._read(sole, body, read_media(request.scope["headers"])))
        values = self._decode(request.scope, body)
        for name in self._requests:
            values[name] = request
        if self._positional:
            return self.function(*[values.pop(one.name, one.default) for one in self._positional], **values)
        return self.function(**values)

    def _decode(self, scope: Any, body: bytes) -> dict[str, Any]:
        only = self.only
        if not body:
            return self._without_body(scope)
        media = read_media(scope["headers"])
        return (
            {only.name: self._read(only, body, media)}
            if only is not None
            else self._several(scope, body, media)
        )

    def _read(self, argument: Argument, body: bytes, media: Media) -> Any:
        try:
            return argument.read(body, media)
        except ValidationError as error:
            raise refusal_of(error) from None
        except PydanticCustomError as error:
            raise refuse(422, error.type, error.message()) from None

    # ---- several parameters, or no body ----------------------------------------------------------------------

    def _several(self, scope: Any, body: bytes, media: Media) -> dict[str, Any]:
        """Members of a JSON object, or one that is the body and the others from the query."""
        query = self._query(scope)
        if not media.is_json:
            raw = self.raw
            if raw is None:
                raise unsupported(media, (JSON,))
            return self._complete({raw.name: self._read(raw, body, media)}, query, "query")
        if media.encoding:
            check_encoding(media)
        try:
            values: dict[str, Any] = (self._some if query else self.members).validate_json(body)
        except ValidationError as error:
            raise refusal_of(error) from None
        return self._complete(values, query, "body") if query else values

    def _complete(self, values: dict[str, Any], query: dict[str, Any], where: str) -> dict[str, Any]:
        """Adds from the query what is not there yet."""
        rest = {name: value for name, value in query.items() if name not in values}
        try:
            values.update(self._some.validate_python(rest))
        except ValidationError as error:
            raise refusal_of(error, ("query",)) from None
        absent = [
            missing((where, one.name)) for one in self.arguments if one.required and one.name not in values
        ]
        if absent:
            raise RequestRefused(422, absent)
        return values

    def _without_body(self, scope: Any) -> dict[str, Any]:
        query = self._query(scope)
        only = self.only
        if only is not None and not query and only.required:
            if only.is_bytes or (only.is_text and scope["method"] not in _BODILESS):
                return {only.name: self._read(only, b"", Media())}
            if not only.in_query:
                raise RequestRefused(422, [missing(("body",))])
        try:
            values: dict[str, Any] = self.members.validate_python(query)
            return values
        except ValidationError as error:
            refusal = refusal_of(error, ())
        for detail in refusal.detail:
            loc = detail["loc"]
            in_query = self.in_query or (bool(loc) and loc[0] in query)
            detail["loc"] = ["query" if in_query else "body", *loc]
        raise refusal

    def _query(self, scope: Any) -> dict[str, Any]:
        """The values of the query string that are parameters of ours; all of them for a list, else the last."""
        text = scope["query_string"]
        found: dict[str, Any] = {}
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True) if text else ():
            argument = self._by_name.get(name)
            if argument is None or argument.is_bytes:
                continue
            if argument.many:
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        return found


# ---- building --------------------------------------------------------------------------------------------------


def _struct_reader(kind: Any, name: str) -> StructReader:
    try:
        return StructReader(kind)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        for base in kind.__mro__[:-1]:
            for field, hint in vars(base).get("__annotations__", {}).items():
                field_type(base, field, hint)  # raises for the culprit, if a field is one
        raise UnusableAnnotation(f"nothing can be decoded to the annotation of '{name}' ({error})") from error


def _adapter(kind: Any, name: str) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, PydanticUndefinedAnnotation, NameError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UnusableAnnotation(
            f"nothing can be decoded to the annotation of '{name}' ({reason})"
        ) from error
    return adapter


def _members(arguments: Iterable[Argument], *, optional: bool = False) -> TypeAdapter[Any]:
    """Validates all arguments as members of one object; those that may be absent are left out of the result."""
    fields = {
        one.name: Required[one.type] if one.required and not optional else NotRequired[one.type]
        for one in arguments
    }
    return TypeAdapter(TypedDict("Arguments", fields))  # type: ignore[operator]


def schema_of(adapter: TypeAdapter[Any], mode: JsonSchemaMode = "validation") -> dict[str, Any]:
    """The JSON schema, with `$defs`; empty for types that JSON schema has no words for."""
    try:
        return adapter.json_schema(mode=mode)
    except PydanticUserError:
        return {}


def _is_scalar(schema: dict[str, Any]) -> bool:
    """Whether a value can be said in a query string: one word, or a list of words."""
    definitions = schema.get("$defs", {})

    def is_scalar(part: Any, *, in_list: bool = False) -> bool:
        if "$ref" in part:
            part = definitions.get(part["$ref"].rpartition("/")[2], {})
        if "anyOf" in part:
            return all(is_scalar(one, in_list=in_list) for one in part["anyOf"])
        if part.get("type") == "array":
            return not in_list and is_scalar(part.get("items", {}), in_list=True)
        return "enum" in part or "const" in part or part.get("type") in _WORDS

    return is_scalar(schema)


def _decode_text(body: bytes, media: Media) -> str:
    charset = media.parameters.get("charset", "utf-8").lower()
    if charset not in _CHARSETS:
        raise refuse(415, "charset", "The charset of the body is not supported; send UTF-8")
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        raise refuse(400, "text_invalid", f"The body is not {charset} text: {error.reason}") from None
