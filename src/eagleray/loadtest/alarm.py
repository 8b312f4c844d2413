"""Wakes an event loop at exact times: its own timers count whole milliseconds, too coarse for a load.

Linux has timerfd for it, which costs two system calls a wake-up; elsewhere the loop's own timers have to do. Must not
spin: the server under test may need the core.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_MONOTONIC = 1
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1


class _Times(ctypes.Structure):
    """struct itimerspec: interval, then value, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` at the last time that was `set`. Its owner closes it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self._libc = ctypes.CDLL(None)
        self._times = _Times()
        if hasattr(self._libc, "timerfd_create"):
            self._fd = self._libc.timerfd_create(_MONOTONIC, _NONBLOCKING)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._rung)

    def set(self, at: float) -> None:
        """`at` is in seconds of time.monotonic(); one that has passed rings at once, on a later turn of the loop."""
        if self._fd < 0:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._ring)
            return
        seconds = int(at)
        self._times.s = seconds
        self._times.ns = max(1, int((at - seconds) * 1e9))  # zeros would disarm it
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._times), None)

    def close(self) -> None:
        """It does not ring any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _rung(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew meanwhile
            return
        self._ring()
