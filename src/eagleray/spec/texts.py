"""Configs as text: JSON and YAML become values, unless they hold more of them than a config ever does.

A key that a mapping has twice is a mistake, where other readers let the last one win without a word: it is told
with its place, in YAML with both lines. JSON's limit is judged before it is parsed, because its parser holds the
interpreter for as long as it works: what passes takes it some tens of milliseconds at most. May take seconds otherwise,
so whoever serves others calls it in a thread.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from eagleray.base.errors import ConfigError
from eagleray.spec.problems import Path, show, tell

MAX_VALUES = 100_000
"""Scalars and containers of a document."""

_STRING_OR_VALUE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[,\[{]', re.DOTALL)

_MERGE = "tag:yaml.org,2002:merge"


def parse_json(body: bytes) -> Any:
    """Raises ConfigError for what is no JSON, or too much of it."""
    if _counts_beyond(body, MAX_VALUES):
        raise ConfigError(
            f"The body has more than {MAX_VALUES} values; pass large data in a file of its own."
        )
    try:
        value = msgspec.json.decode(body)
        lines = _repeated(json.loads(body, object_pairs_hook=_Object))
    except (RecursionError, ValueError) as error:  # msgspec's are ValueErrors, so are numbers of 5,000 digits
        raise ConfigError(f"The body is not valid JSON: {error}") from None
    if lines:
        raise ConfigError("The body is not valid:\n" + "\n".join(lines))
    return value


class _Object:
    """The members of an object in their order, whatever their keys are."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _repeated(root: Any) -> list[str]:
    """A line for each key that its object has already."""
    found: list[str] = []
    stack: list[tuple[Any, Path]] = [(root, ())]
    while stack:
        value, path = stack.pop()
        if isinstance(value, list):
            stack += [(item, (*path, index)) for index, item in enumerate(value)]
        elif isinstance(value, _Object):
            stack += [(item, (*path, key)) for key, item in value.pairs]
            known: set[str] = set()
            for key, _ in value.pairs:
                if key in known:
                    found.append(f"{show((*path, key))}: is given twice; keep one")
                known.add(key)
    return tell(sorted(found))


def _counts_beyond(body: bytes, most: int) -> bool:
    """Whether commas and opening brackets outside of strings are more than `most`: about one for each value."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= most:
        return False
    found = 0
    for match in _STRING_OR_VALUE.finditer(body):
        if body[match.start()] != 0x22:  # a quote
            found += 1
            if found > most:
                return True
    return False


def parse_yaml(text: str | bytes) -> Any:
    """Raises ConfigError for keys that stand twice in a mapping, yaml.YAMLError and ValueError for what is no YAML."""
    import yaml  # few processes read any

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _construct(loader, node)
    finally:
        loader.dispose()


def parse_documents(text: str) -> list[Any]:
    """As `parse_yaml`, of a text that may hold several documents, or none."""
    import yaml

    loader, found = yaml.SafeLoader(text), []
    try:
        while loader.check_node():
            found.append(_construct(loader, loader.get_node()))
    finally:
        loader.dispose()
    return found


def _construct(loader: Any, node: Any) -> Any:
    if lines := _duplicates(node):
        raise ConfigError("\n".join(lines))
    return loader.construct_document(node)


def yaml_mistake(error: Exception) -> str:
    """What a YAMLError says, and where. Not its whole text, which quotes lines of the file and so what is secret."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return str(error)
    told = [text for text in (getattr(error, "context", ""), getattr(error, "problem", "")) if text]
    return f"line {mark.line + 1}, column {mark.column + 1}: {', '.join(told)}"


def _duplicates(root: Any) -> list[str]:
    """A line for each key that its mapping has already, in the order of the file."""
    found: list[tuple[int, str]] = []
    stack: list[tuple[Any, Path]] = [(root, ())]
    seen = set()
    while stack:
        node, path = stack.pop()
        if id(node) in seen:  # behind an anchor
            continue
        seen.add(id(node))
        if node.id == "sequence":
            stack += [(item, (*path, index)) for index, item in enumerate(node.value)]
        elif node.id == "mapping":
            lines: dict[tuple[str, str], tuple[int, Any]] = {}
            for key, value in node.value:
                here = (*path, str(key.value) if key.id == "scalar" else key.id)
                stack.append((value, here))
                if key.id != "scalar" or key.tag == _MERGE:
                    continue
                line = key.start_mark.line + 1
                first = lines.setdefault((key.tag, key.value), (line, key))
                if first[1] is not key:
                    text = f"{show(here)}: is given twice, in line {first[0]} and in line {line}; keep one"
                    found.append((line, text))
    return tell(text for _, text in sorted(found))
