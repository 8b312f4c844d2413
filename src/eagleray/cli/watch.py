"""Tells when source files of a directory have changed: by inotify through `watchfiles` if it is installed, else by
looking at modification times. It reads no file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

watchfiles: Any
try:
    import watchfiles
except ImportError:  # only the extra [dev] has it
    watchfiles = None

POLL_S = 0.5
"""Seconds between two looks where there is no inotify: below what a person notices after saving a file."""

_IGNORED = {"__pycache__", ".git", ".venv", "node_modules"}


async def changes(directory: str) -> AsyncIterator[set[str]]:
    """Yields the changed `.py` files, a set for each burst of changes, from the first step of the iteration on."""
    known = _times(directory)
    if watchfiles is not None:
        source = watchfiles.awatch(directory, watch_filter=watchfiles.PythonFilter(), debounce=100, step=20)
        try:
            async for found in source:
                yield {path for _, path in found}
        except OSError:  # the user's limit of watches is reached
            pass
    while True:
        await asyncio.sleep(POLL_S)
        now = await asyncio.to_thread(_times, directory)
        if now != known:
            changed = {path for path in now.keys() | known.keys() if now.get(path) != known.get(path)}
            known = now
            yield changed


def _times(directory: str) -> dict[str, int]:
    times = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name not in _IGNORED]
        for name in names:
            if name.endswith(".py"):
                path = Path(folder) / name
                try:
                    times[str(path)] = path.stat().st_mtime_ns
                except OSError:  # gone between listing and looking
                    continue
    return times
