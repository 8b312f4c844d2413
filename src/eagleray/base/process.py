"""What every child of node begins with: what it was given, its event loop, and how it ends.

A child ends in one of four ways: its `main` returns; SIGTERM cancels `main` once, so that it may put things in order;
node dies, which the kernel reports by SIGKILL (PR_SET_PDEATHSIG) and the life pipe by EOF; or node kills it. SIGINT
is ignored, because Ctrl-C reaches the whole foreground group and only the driver decides what it means.

This module knows nothing of roles and reads no configuration.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType

_new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_event_loop
except ImportError:  # a platform without uvloop
    _new_event_loop = asyncio.new_event_loop


@dataclass(frozen=True)
class Child:
    """What node hands to a child's `main(child)`.

    `listener` is the child's own Unix socket, `http_listener` a TCP socket that is shared with node; both listen
    already and do not block. `parent_fd` is a pipe whose EOF means that node has gone. `node_fd` is the controller's
    channel to node, and -1 in all other children.
    """

    ref: str
    payload: bytes
    listener: socket.socket | None
    http_listener: socket.socket | None
    parent_fd: int
    node_fd: int
    runtime_dir: str
    log_path: str


def run_child(child: Child, main: Callable[[], Awaitable[None]]) -> None:
    """Runs `main()` on a fresh event loop until it ends; returns also after a SIGTERM that `main` has obeyed.

    Executor threads are not waited for: a user's call that never returns must not keep the process alive.
    """
    signal.signal(signal.SIGINT, ignore_signal)
    loop = _new_event_loop()
    asyncio.set_event_loop(loop)
    watch_parent(loop, child.parent_fd)
    task = loop.create_task(_call(main), name=f"{child.ref} main")
    loop.add_signal_handler(signal.SIGTERM, _cancel_once(task))
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    finally:
        _finish(loop)


def ignore_signal(signum: int, frame: FrameType | None) -> None:
    """Does nothing; a handler and not SIG_IGN, which the user's own subprocesses would inherit."""


def watch_parent(loop: asyncio.AbstractEventLoop, parent_fd: int) -> None:
    """Ends this process at once when `parent_fd` reports EOF, that is when node has gone.

    Second line of defence behind PR_SET_PDEATHSIG, which a program may clear; nothing is ever written to the pipe.
    """
    if parent_fd >= 0:
        loop.add_reader(parent_fd, os._exit, 1)


async def _call(main: Callable[[], Awaitable[None]]) -> None:
    await main()


def _cancel_once(task: asyncio.Task[None]) -> Callable[[], None]:
    """Only the first SIGTERM cancels: a second one would interrupt the orderly end; node escalates by SIGKILL."""
    cancelled = False

    def cancel() -> None:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            task.cancel()

    return cancel


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    # Closing the loop restores SIGTERM's default, under which a second one would spoil an orderly exit code.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    loop.close()
    signal.signal(signal.SIGTERM, ignore_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
