"""Bodies of requests: JSON everywhere, YAML where a config is wanted; nothing that a form of a web page can send.

They are parsed in a thread, for the controller's loop has other things to do. YAML's parser is pure Python and has a
smaller limit: it is slow, anchors multiply, and the C one has no limit to its recursion.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from eagleray.admin.gate import Refusal
from eagleray.base.errors import ConfigError
from eagleray.spec.texts import MAX_VALUES, parse_json, parse_yaml, yaml_mistake

MAX_BODY_BYTES = 8 * 2**20
"""Of any request; beyond: 413."""

MAX_YAML_BYTES = 2**20
"""Of a YAML body; beyond: 413."""

_YAML = ("application/yaml", "application/x-yaml")


def check_content_type(value: bytes, *, takes_yaml: bool, has_body: bool) -> bool:
    """Whether the body is YAML. Raises Refusal 415 for a type that is not wanted, or for none with a body."""
    kind = value.decode("latin-1").partition(";")[0].strip().lower()
    if kind == "application/json" or (not kind and not has_body):
        return False
    if takes_yaml and kind in _YAML:
        return True
    wanted = "application/json or application/yaml" if takes_yaml else "application/json"
    raise Refusal(415, f"Unsupported media type {kind!r}: send {wanted}.")


async def parse_object(body: bytes, *, is_yaml: bool) -> dict[str, Any]:
    """Raises ConfigError for what cannot be parsed, or is no object; Refusal 413."""
    if is_yaml:
        if len(body) > MAX_YAML_BYTES:
            raise Refusal(413, f"A YAML body may have {MAX_YAML_BYTES} bytes; send JSON.")
        value = await asyncio.to_thread(_parse_yaml, body)
    else:
        value = await asyncio.to_thread(parse_json, body)
    if not isinstance(value, dict):
        raise ConfigError(f"The body must be an object, not {type(value).__name__}.")
    return value


def _parse_yaml(body: bytes) -> Any:
    import yaml  # in the first request that needs it

    try:
        value = parse_yaml(body)
        _count(value, MAX_VALUES)
        # What JSON cannot say, such as dates and keys that are numbers, becomes text.
        return msgspec.json.decode(msgspec.json.encode(value))
    except ConfigError as error:
        raise ConfigError(f"The body is not valid:\n{error}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, UnicodeError) as error:
        raise ConfigError(f"The body is not valid YAML: {yaml_mistake(error)}") from None


def _count(value: Any, left: int) -> int:
    left -= 1
    if left < 0:
        raise ValueError(f"more than {MAX_VALUES} values, those behind anchors included")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        left = _count(child, left)
    return left
