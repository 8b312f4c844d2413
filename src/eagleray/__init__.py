"""Eagleray serves Python models online. `from eagleray import serve` is the public API.

Beside it there are the few names that Ray Serve programs ask of `ray` itself. Each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray.ray_core import get, get_runtime_context, init, is_initialized, shutdown

__version__ = "0.1.0"

_CORE = ("get", "get_runtime_context", "init", "is_initialized", "shutdown")
_MODULES = {"serve": "eagleray.serve", "exceptions": "eagleray.exceptions", "cloudpickle": "cloudpickle"}

__all__ = ["get", "get_runtime_context", "init", "is_initialized", "shutdown"]


def __getattr__(name: str) -> Any:
    """`import eagleray; eagleray.serve` works too, and `import eagleray` alone loads nothing."""
    if name in _CORE:
        return getattr(import_module("eagleray.ray_core"), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    if not name.startswith("_"):
        names = import_module("eagleray.base.ray_names")
        if name == "ObjectRef":
            return names.ObjectRef
        if name in names.INSTEAD:
            return names.RayOnly(f"ray.{name}")
    raise AttributeError(f"module 'eagleray' has no attribute '{name}'")
