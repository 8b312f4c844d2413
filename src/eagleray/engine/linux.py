"""The few Linux calls that Python's library lacks, by ctypes: prctl and mallopt.

Constants are the kernel's (include/uapi/linux/prctl.h) and glibc's (malloc.h).
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1

_MMAP_THRESHOLD_BYTES = 16 << 20
"""Allocations from here on are mapped one by one: a body of 10 MB still comes from the heap."""
_RESERVE_BYTES = 24 << 20
"""Free heap that a process keeps, well below the 64 MB that a slow client may cost."""

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(ctypes.c_int(option), value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def set_parent_death_signal(signum: int) -> None:
    """The kernel sends `signum` to this process when the thread that forked it ends; check getppid() afterwards."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, so that it can reap and kill them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """What `ps` and `top` show as the command: at most 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def tune_malloc() -> None:
    """Makes glibc keep what big bodies need, and not more: few arenas, no mapping per chunk, a bounded reserve.

    By default every chunk of a body is mapped, faulted in page by page and unmapped again, which took 80 % of a
    proxy's time in a 10 MB echo. mallopt does not leak into the environment of the user's subprocesses, as
    MALLOC_* variables would. A C library without it has nothing to tune.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _RESERVE_BYTES)


def children_of(pid: int) -> list[int]:
    """The living and unreaped children of a single-threaded process, in no order."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [
            child for child in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent_of(child) == pid
        ]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # the command's name stands in parentheses, and may itself hold blanks and parentheses
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def kill_by_environment(name: str, value: str) -> None:
    """SIGKILLs other processes that were exec'd with `name=value`: the only trace of those whose parents have died."""
    mark = f"{name}={value}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            pidfd = os.pidfd_open(int(pid))
        except OSError:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except OSError:  # somebody else's, or gone
            pass
        finally:
            os.close(pidfd)


def count_threads() -> int:
    """Threads of this process, native ones included, which `threading` cannot see."""
    return len(os.listdir("/proc/self/task"))


def open_fds() -> set[int]:
    """File descriptors of this process that are open now."""
    with os.scandir("/proc/self/fd") as entries:
        fds = {int(entry.name) for entry in entries}
    return {fd for fd in fds if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # the descriptor of the directory that was listed
        return False
    return True


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, with what it shares, as `ps` shows it; 0 when it has gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
