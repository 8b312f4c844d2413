"""Process trees as Linux's /proc shows them: who belongs to a system, its memory, its CPU time, its end.

The harness makes itself the reaper of orphans, so that whatever a system starts stays its descendant, also daemons
that double-fork: nothing escapes the memory figure and nothing survives `end_all`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")


def adopt_orphans() -> None:
    """Makes this process the parent of its orphaned descendants (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _parents() -> dict[int, tuple[int, str]]:
    """pid -> (parent's pid, state letter) of every process."""
    found = {}
    for entry in os.listdir(PROC):
        if not entry.isdigit():
            continue
        try:
            stat = (PROC / entry / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        fields = stat[stat.rindex(")") + 2 :].split()
        found[int(entry)] = (int(fields[1]), fields[0])
    return found


def descendants(root: int) -> list[int]:
    """Living processes below `root`, without it and without zombies."""
    parents = _parents()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in parents.items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    frontier = [root]
    while frontier:
        below = children.get(frontier.pop(), [])
        found += below
        frontier += below
    return sorted(pid for pid in found if parents[pid][1] != "Z")


def pss_bytes(pids: list[int]) -> int:
    """Summed proportional set size: shared pages count once over all the processes that share them."""
    total = 0
    for pid in pids:
        try:
            rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def cpu_s(pids: list[int]) -> float:
    """CPU seconds that all threads of `pids` have used; nanosecond resolution where the kernel keeps it."""
    total_ns = 0
    for pid in pids:
        try:
            tasks = os.listdir(PROC / str(pid) / "task")
        except OSError:
            continue
        for task in tasks:
            try:
                total_ns += int((PROC / str(pid) / "task" / task / "schedstat").read_text().split()[0])
            except OSError:
                continue
    return total_ns / 1e9


def reap() -> None:
    """Collects ended orphans that came to us, so that they are no zombies."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait_until(condition: Callable[[], bool], timeout_s: float, period_s: float = 0.02) -> bool:
    """Whether `condition` became true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(period_s)
    return True


def end_all(root: int, grace_s: float) -> list[str]:
    """Waits `grace_s` for all descendants of `root` to end, kills the rest, and names those.

    Raises RuntimeError when some survive even that.
    """

    def gone() -> bool:
        reap()
        return not descendants(root)

    if wait_until(gone, grace_s):
        return []
    left = [f"{pid} {_command(pid)}" for pid in descendants(root)]

    def killed() -> bool:
        for pid in descendants(root):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return gone()

    if not wait_until(killed, 10.0):
        raise RuntimeError(f"processes survive SIGKILL: {[_command(pid) for pid in descendants(root)]}")
    return left


def _command(pid: int) -> str:
    try:
        return (
            (PROC / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()[:100]
        )
    except OSError:
        return "?"
