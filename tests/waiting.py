"""Waiting for what other processes and threads do: by looking, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 30.0


def wait_until(condition: Callable[[], T], what: str = "the condition", deadline_s: float = DEADLINE_S) -> T:
    """The first true value of `condition`; AssertionError when there is none within `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true within {deadline_s} s"
        time.sleep(0.01)
