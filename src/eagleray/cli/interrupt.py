"""What Ctrl-C and SIGTERM do while no event loop is there to hear of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

INTERRUPTED = 130
"""Exit code of a command that was interrupted before it served."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> None:
    """Until there is something to clean up, the command just ends."""
    for signum in _SIGNALS:
        signal.signal(signum, lambda _signum, _frame: os._exit(INTERRUPTED))


def tell(note: Callable[[], None]) -> None:
    """From now on there is something to clean up: only `note` is called."""
    for signum in _SIGNALS:
        signal.signal(signum, lambda _signum, _frame: note())


def ignore() -> None:
    """The end is under way and takes a bounded time."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
