"""What a request says about its body, and how a body that does not fit is refused.

A refusal is FastAPI's: `{"detail": [{"loc": [...], "msg": ..., "type": ...}]}`. It repeats nothing of what the client
sent but names, because a refusal must not be larger than the request that caused it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from eagleray.base.errors import EaglerayError
from eagleray.wire.messages import Headers

Detail = dict[str, Any]
"""One thing that is wrong: `loc`, `msg` and `type`."""

_MAX_DETAILS = 100
"""Things that are told; the rest is counted."""
_MAX_ERRORS = 10_000
"""Beyond this they are only counted: to list them all would take longer than to find them (1 us each)."""


class RequestRefused(EaglerayError):
    """A request cannot be decoded (400, 415) or is not what the deployment's annotations ask for (422)."""

    code = "bad_request"
    blame = "caller"

    def __init__(self, status: int, detail: list[Detail]) -> None:
        self.status = status
        self.detail = detail
        super().__init__(status, detail)

    def encode(self) -> bytes:
        """The answer's body."""
        return json.dumps({"detail": self.detail}, separators=(",", ":")).encode()


def refuse(status: int, kind: str, message: str, loc: Sequence[str | int] = ("body",)) -> RequestRefused:
    """A refusal for one reason. `kind` is a word for programs, `message` a sentence for people."""
    return RequestRefused(status, [{"type": kind, "loc": list(loc), "msg": message}])


def missing(loc: Sequence[str | int]) -> Detail:
    """The detail of a value that was not given."""
    return {"type": "missing", "loc": list(loc), "msg": "Field required"}


def refusal_of(error: ValidationError, where: Sequence[str | int] = ("body",)) -> RequestRefused:
    """What pydantic found wrong, as an answer. A body that is no JSON at all is 400, all else 422."""
    count = error.error_count()
    if count > _MAX_ERRORS:
        return refuse(422, "too_many_errors", f"{count} values are not valid", where)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    status = 400 if found[0]["type"] == "json_invalid" and not found[0]["loc"] else 422
    detail: list[Detail] = [
        {"type": one["type"], "loc": [*where, *one["loc"]], "msg": one["msg"]} for one in found[:_MAX_DETAILS]
    ]
    if count > _MAX_DETAILS:
        more = f"{count - _MAX_DETAILS} more values are not valid"
        detail.append({"type": "too_many_errors", "loc": list(where), "msg": more})
    return RequestRefused(status, detail)


@dataclass(frozen=True, slots=True)
class Media:
    """Content type of a body. `essence` is in lower case and empty when the client named none."""

    essence: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    encoding: str = ""

    @property
    def is_json(self) -> bool:
        """Whether the body says that it is JSON, or does not say what it is."""
        essence = self.essence
        return essence in ("application/json", "") or essence.endswith("+json")


_JSON = Media("application/json")
_NONE = Media()


def read_media(headers: Headers) -> Media:
    """The content type that the request's headers name."""
    found = _NONE
    encoding = ""
    for name, value in headers:
        if name == b"content-type":
            found = _JSON if value == b"application/json" else _parse(value)
        elif name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return found
    return Media(found.essence, found.parameters, encoding)


def _parse(value: bytes) -> Media:
    essence, *rest = value.decode("latin-1").split(";")
    parameters = {}
    for part in rest:
        name, equals, text = part.partition("=")
        if equals:
            parameters[name.strip().lower()] = text.strip().strip('"')
    return Media(essence.strip().lower(), parameters)


def check_encoding(media: Media) -> None:
    """Refuses a compressed body: unpacking it could cost any amount of memory."""
    if media.encoding:
        # The client's words are cut: they may be as long as a header.
        raise refuse(
            415,
            "content_encoding",
            f"Content-Encoding '{media.encoding[:80]}' is not supported; send the body as it is",
        )


def unsupported(media: Media, accepted: Iterable[str]) -> RequestRefused:
    """The refusal of a content type that the parameter cannot be made from."""
    said = f"Content-Type '{media.essence[:80]}'" if media.essence else "A body without Content-Type"
    return refuse(415, "content_type", f"{said} is not supported here; send {' or '.join(accepted)}")
