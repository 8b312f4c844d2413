"""Looking at real processes: who is there, who has gone, and waiting for it with a deadline."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def descendants(pid: int) -> set[int]:
    """All living processes below `pid`, without it."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def still_alive(pids: Iterable[int]) -> set[int]:
    """Those that run; a zombie has ended."""
    alive = set()
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.add(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def wait_gone(pids: Iterable[int], timeout_s: float) -> set[int]:
    """Waits until all have ended; returns those that have not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    for pid in set(pids):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(pidfd)
    return still_alive(pids)


def command_of(pid: int) -> str:
    """The short name that `ps` shows, such as `er:replica`."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill(pids: Iterable[int]) -> None:
    """SIGKILLs what is still there of processes that the test has started."""
    for pid in still_alive(pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
