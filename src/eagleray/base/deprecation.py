"""Warns of old names that go on to work, at the line of the user's that has them.

Python shows a DeprecationWarning by itself only where it is attributed to the program, so its place is looked for: the
first frame that is neither ours nor of a library that called us back.
"""

from __future__ import annotations

import sys
import warnings

_NOT_THE_USER = frozenset(("eagleray", "pydantic", "importlib", "functools"))


def warn_deprecated(text: str) -> None:
    """`text` names the old form and the modern one."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package(frame.f_globals) in _NOT_THE_USER:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, DeprecationWarning, stacklevel=level)


def _package(variables: dict[str, object]) -> str:
    return str(variables.get("__name__", "")).partition(".")[0]
