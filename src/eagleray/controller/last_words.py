"""The last line of a dead process's log: often the only word on why it ended."""

from __future__ import annotations

import os

_TAIL_BYTES = 4096
_MAX_CHARS = 300


def last_line(path: str) -> str:
    """The last line that says something, made printable and cut to a length for messages; "" without one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    text = "".join(char if char.isprintable() else " " for char in lines[-1]) if lines else ""
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}..."
