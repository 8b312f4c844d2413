"""User exceptions on their way out: their tracebacks begin where user code begins, not with our own frames."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

import eagleray

_NO_MEMORY = (
    "It has no more memory: load less of it, or give the process more "
    "(`ulimit -v`, the limit of the cgroup, the machine).\n"
)

_OURS = str(Path(eagleray.__file__).parent) + "/"


def trimmed(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """`exc_info` that begins with the first frame that is not ours; all of it when every frame is."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    return type(error), error, frame or error.__traceback__


def trimmed_text(error: BaseException) -> str:
    """The traceback as text, as a user wants to read it; the mere message when no frame is the user's.

    It can be encoded: lone surrogates, as in file names that are not UTF-8, are escaped.
    """
    kind, _, frame = trimmed(error)
    if frame is error.__traceback__:
        frame = None
    text = "".join(traceback.format_exception(kind, error, frame))
    if isinstance(error, MemoryError):
        text += _NO_MEMORY
    return text.encode(errors="backslashreplace").decode()
