"""The command line under its familiar path; it is `eagleray.cli`, a floor above, so it is loaded by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "cli":
        return import_module("eagleray.cli.commands").commands
    raise AttributeError(f"module 'eagleray.serve.scripts' has no attribute '{name}'")


if __name__ == "__main__":
    import_module("eagleray.cli.__main__").main()
