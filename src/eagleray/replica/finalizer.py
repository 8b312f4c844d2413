"""`__del__` runs once: when the replica stops, and not again when the interpreter gives up the object.

The class belongs to the user, and in local testing other instances of it live on. So it is not the method that is
taken away but, for this one object, its second run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ended: set[int] = set()
"""Ids of objects whose `__del__` has run and that still exist."""


def finalizer_of(instance: Any) -> Callable[[Any], Any] | None:
    """The `__del__` of the object's class; None without one."""
    found: Callable[[Any], Any] | None = getattr(type(instance), "__del__", None)
    return found


def forget_finalizer(instance: Any) -> None:
    """The interpreter will not run `__del__` of this object any more."""
    found = finalizer_of(instance)
    if found is None:
        return
    if not hasattr(found, "_eagleray_guard"):
        try:
            type(instance).__del__ = _guarded(found)
        except TypeError:
            return  # a type that cannot be changed
    _ended.add(id(instance))


def _guarded(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def finalize(instance: Any) -> Any:
        if id(instance) in _ended:
            _ended.discard(id(instance))
            return None
        return original(instance)

    finalize._eagleray_guard = True  # type: ignore[attr-defined]
    return finalize
