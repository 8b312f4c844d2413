"""The fork itself, and what a process must do between the fork and the first line of its role.

Node preloads the runtimes once and forks them, so a child starts in milliseconds and shares its pages. A fork copies
more than is wanted: signal handlers, descriptors, random state, stack frames. `fork_child` raises `Forked` in the
child, so that node's frames unwind; `run_birth` then makes a clean process of it at the top of the stack.

Only a single-threaded process may fork: another thread's locks would stay locked for ever in the child.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import NoReturn

from eagleray.base import logs, ray_names
from eagleray.base.ids import reseed_after_fork
from eagleray.base.process import Child, ignore_signal
from eagleray.base.settings import Settings
from eagleray.engine.base import EngineError
from eagleray.engine.exec import become, hold
from eagleray.engine.linux import count_threads, open_fds, set_parent_death_signal, set_process_name

_GUARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_HANDLED = (*_GUARDED, signal.SIGHUP)


@dataclass(frozen=True)
class Birth:
    """All that a child is born with. `log_fd` becomes its standard output and error."""

    child: Child
    module: str
    log_fd: int
    env: Mapping[str, str]
    cwd: str
    keep_fds: frozenset[int]
    python: str = ""
    """Interpreter that the child becomes; empty: it stays a fork of node."""
    holds: tuple[str, ...] = ()
    """Directories that it locks against collection."""


class Forked(BaseException):
    """Raised in the child only; no BaseException handler on node's stack may stop it."""

    def __init__(self, birth: Birth) -> None:
        super().__init__(birth.child.ref)
        self.birth = birth


def fork_child(birth: Birth) -> int:
    """Returns the child's pid in node and raises Forked in the child; raises EngineError when forking is not safe."""
    threads = count_threads()
    if threads != 1:
        raise EngineError(
            "internal",
            f"node has {threads} threads, so it cannot fork safely: a preloaded module must not start threads.",
        )
    sys.stdout.flush()
    sys.stderr.flush()
    node_pid = os.getpid()
    # Until the child has its own handlers, a signal meant for it would be written to node's wake-up pipe.
    signal.pthread_sigmask(signal.SIG_BLOCK, _GUARDED)
    try:
        pid = os.fork()
        if pid == 0:
            _leave_parent(node_pid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _GUARDED)
    if pid == 0:
        raise Forked(birth)
    return pid


def _leave_parent(node_pid: int) -> None:
    signal.set_wakeup_fd(-1)
    for signum in _HANDLED:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, ignore_signal)
    os.setsid()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != node_pid:  # node died before the line above took effect
        os._exit(1)


def run_birth(birth: Birth) -> NoReturn:
    """Runs the child's role at the top of the stack, and ends the process with its exit code."""

    def role() -> None:
        _settle(birth)
        if birth.python:
            become(birth)
        hold(birth.holds)
        play(birth.module, birth.child)

    run_role(role)


def play(module: str, child: Child) -> None:
    """Runs a role, in whose process `ray` means Eagleray if its application's code says so."""
    if Settings.from_env().as_ray:
        ray_names.install()
    importlib.import_module(module).main(child)


def run_role(role: Callable[[], None]) -> NoReturn:
    """Ends by os._exit, so that a user's thread that never ends cannot keep the process."""
    status = 1
    try:
        role()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # the root of the process: whatever it was goes to the child's log
        traceback.print_exc()
    finally:
        _end(status)


def _settle(birth: Birth) -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(birth.log_fd, 1)
    os.dup2(birth.log_fd, 2)
    for fd in open_fds() - birth.keep_fds - {0, 1, 2}:
        os.close(fd)
    logs.reset()
    reseed_after_fork()
    os.environ.update(birth.env)
    os.environ["EAGLERAY_RUNTIME_DIR"] = birth.child.runtime_dir
    if birth.python and (path := os.environ.get("PYTHONPATH")):
        # Another interpreter reads it again, in another directory.
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    if birth.cwd:
        os.chdir(birth.cwd)
    name_process(birth.module)
    # the user's plain pickles must not find node's names under `__main__`
    sys.modules["__main__"] = ModuleType("__main__")
    gc.enable()


def name_process(module: str) -> None:
    """What `ps` shows of a role, and its stacks on SIGUSR1; an exec forgets both."""
    role = module.removeprefix("eagleray.").removesuffix(".__main__")
    set_process_name(f"er:{role}")
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)


def _end(status: int) -> NoReturn:
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # an exit function of the user's, or a full disk; the exit code stays
        traceback.print_exc()
    os._exit(status)
