"""Eagleray serves Python models online. `from eagleray import serve` is the public API."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`import eagleray; eagleray.serve` works too, and `import eagleray` alone loads nothing."""
    if name == "serve":
        return import_module("eagleray.serve")
    raise AttributeError(f"module 'eagleray' has no attribute '{name}'")
