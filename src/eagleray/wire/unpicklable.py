"""Finds which part of a value cannot be pickled, and says so by its path, as in `Model.client._lock`.

Runs only after pickling has failed, so it may be slow; it is bounded in depth and in number of objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import getclosurevars, isfunction
from typing import Any

import cloudpickle

from eagleray.base.errors import EaglerayError

_MAX_DEPTH = 12
"""Steps down from the value; deeper paths help nobody."""
_MAX_TRIES = 2000
"""Objects that are pickled for a try."""


class SerializationError(EaglerayError, TypeError):
    """A value cannot be pickled; the message names the part that is to blame."""

    code = "serialization"
    blame = "application"


def find_culprit(parts: Mapping[str, Any], error: BaseException) -> str:
    """The message for the first of `parts` (what the user calls it -> value) that cannot be pickled.

    All of them together failed to pickle with `error`.
    """
    search = _Search()
    what, value = next(((what, value) for what, value in parts.items() if search.fails(value)), ("it", parts))
    path, culprit = search.descend(_root_name(value, what), value)
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
    return (
        f"Cannot send {what}: `{path}` is a {kind}, which cannot be pickled ({type(error).__name__}: {error}). "
        f"{_advice(value)}"
    )


def _advice(value: Any) -> str:
    if any(one.__module__ == "starlette.requests" for one in type(value).__mro__):
        return (
            "Read it first (`await request.body()`), or send what it holds, such as `await request.json()` or "
            "`dict(request.headers)`."
        )
    return "Send something that can be pickled, create it inside the deployment, or leave it out with __getstate__."


def _root_name(value: Any, what: str) -> str:
    if isinstance(value, tuple | list | dict | set):
        return what.rpartition(" ")[2].strip("'")
    name: str = getattr(value, "__qualname__", None) or type(value).__qualname__
    return name


class _Search:
    """One walk down to the smallest part that fails by itself."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._tries = 0

    def descend(self, path: str, value: Any) -> tuple[str, Any]:
        for _ in range(_MAX_DEPTH):
            for child_path, child in _children(path, value):
                if id(child) in self._seen:
                    continue
                self._seen.add(id(child))
                if self.fails(child):
                    path, value = child_path, child
                    break
            else:
                break
        return path, value

    def fails(self, value: Any) -> bool:
        """Whether `value` alone cannot be pickled; False when too many were tried."""
        self._tries += 1
        if self._tries > _MAX_TRIES:
            return False
        try:
            cloudpickle.dumps(value, 5)
        except Exception:  # user code runs in here
            return True
        return False


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{path}[{key!r}]", item
    elif isinstance(value, tuple | list | set | frozenset):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif isfunction(value):
        names = getclosurevars(value)
        for name, item in {**names.nonlocals, **names.globals}.items():
            yield f"{path}.{name}", item
    elif hasattr(value, "__func__") and hasattr(value, "__self__"):
        yield path, value.__self__
    elif not _speaks_for_itself(value):
        for name, item in _attributes(value).items():
            yield f"{path}.{name}", item


def _speaks_for_itself(value: Any) -> bool:
    """Whether it is the object that refuses to be pickled, in words of its own, and not a part of it."""
    try:
        value.__reduce_ex__(5)
    except EaglerayError:
        return True
    except Exception:  # user code
        return False
    return False


def _attributes(value: Any) -> dict[str, Any]:
    """What pickle would take along of an object: its state, else its dict and slots; of a class its members."""
    if isinstance(value, type):
        return {
            name: item
            for name, item in vars(value).items()
            if not name.startswith("__") or name == "__init__"
        }
    try:
        state = value.__getstate__()
    except Exception:  # user code, or a type that refuses to be pickled
        state = getattr(value, "__dict__", {})
    if isinstance(state, tuple) and len(state) == 2:
        merged: dict[str, Any] = {}
        for part in state:
            if isinstance(part, dict):
                merged.update(part)
        return merged
    return dict(state) if isinstance(state, dict) else {}
