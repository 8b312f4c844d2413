"""The end of a model whose class has a `__del__`: it runs when the model leaves its cache, and not a second time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from eagleray.base.threads import run_in_new_thread


async def finalize(model: Any) -> None:
    """Runs the model's `__del__` now, in a thread or awaited; the interpreter won't run it again.

    Raises what it raises.
    """
    kind = type(model)
    if getattr(kind, "__del__", None) is None:
        return
    guard = _guard(kind)
    if guard is None:
        return  # a class that cannot be changed: its `__del__` runs when the last reference goes
    guard.finalized.add(id(model))
    if inspect.iscoroutinefunction(guard.original):
        await guard.original(model)
        return
    outcome = await run_in_new_thread(guard.original, model)
    if inspect.isawaitable(outcome):
        await outcome


class _Guard:
    """Stands before the `__del__` of one class. `finalized` are the ids of live objects whose `__del__` has run."""

    def __init__(self, original: Callable[[Any], Any]) -> None:
        self.original = original
        self.finalized: set[int] = set()

    def run(self, model: Any) -> Any:
        if id(model) in self.finalized:
            self.finalized.discard(id(model))  # the id is free as soon as this returns
            return None
        return self.original(model)


def _guard(kind: type) -> _Guard | None:
    own = vars(kind).get("__del__")
    guard: _Guard | None = getattr(own, "_eagleray_guard", None)
    if guard is not None:
        return guard
    guard = _Guard(kind.__del__)  # type: ignore[attr-defined]
    run = guard.run

    def __del__(self: Any) -> Any:
        return run(self)

    __del__._eagleray_guard = guard  # type: ignore[attr-defined]
    try:
        kind.__del__ = __del__  # type: ignore[attr-defined]
    except TypeError:
        return None
    return guard
