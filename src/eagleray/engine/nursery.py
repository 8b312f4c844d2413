"""Node's children: forked, signalled, reaped and, at the end, killed with everything that they have left behind.

A child leads its own process group. When it dies, the group is killed before the child is reaped, while its pid cannot
yet be another's, so the user's subprocesses end with it. What has left the group comes to node by the kernel
(PR_SET_CHILD_SUBREAPER) and is killed with the instance.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from dataclasses import dataclass

from eagleray.base.process import Child
from eagleray.engine.base import EngineError
from eagleray.engine.linux import children_of
from eagleray.engine.zygote import Birth, fork_child
from eagleray.rpc.unix import calls_path, unlink_socket
from eagleray.wire.control import Exited, StartChild, Started, Suspended


@dataclass(frozen=True)
class _Living:
    started: Started
    listen_path: str


class Nursery:
    """All children that are not yet reaped, by pid."""

    def __init__(self, runtime_dir: str, logs_dir: str, library_fds: frozenset[int]) -> None:
        self._runtime_dir = runtime_dir
        self._logs_dir = logs_dir
        self._library_fds = library_fds
        # Nobody writes: the children see EOF when node, the only holder of the other end, has died.
        self._life_read, self._life_write = os.pipe2(os.O_CLOEXEC)
        self._living: dict[int, _Living] = {}
        self._stopped: set[int] = set()

    def __len__(self) -> int:
        return len(self._living)

    def started(self) -> list[Started]:
        return [living.started for living in self._living.values()]

    def pid_of(self, ref: str) -> int | None:
        return next((pid for pid, living in self._living.items() if living.started.ref == ref), None)

    def start(
        self,
        request: StartChild,
        listener: socket.socket | None = None,
        http: socket.socket | None = None,
        node_fd: int = -1,
    ) -> Started:
        """Raises EngineError in node, and Forked in the child. The caller closes what only the child needs."""
        if request.cwd and not os.path.isdir(request.cwd):
            what = "is no folder" if os.path.exists(request.cwd) else "does not exist"
            raise EngineError(
                "internal",
                f"Working directory '{request.cwd}' {what}: name a folder or a .zip file of this machine in "
                f"runtime_env['working_dir'].",
            )
        log_path = request.log_path or os.path.join(self._logs_dir, _file_name(request.ref))
        child = Child(
            ref=request.ref,
            payload=request.payload,
            listener=listener,
            http_listener=http,
            parent_fd=self._life_read,
            node_fd=node_fd,
            runtime_dir=self._runtime_dir,
            log_path=log_path,
        )
        given = {self._life_read, node_fd, *(sock.fileno() for sock in (listener, http) if sock is not None)}
        keep = frozenset(given) | self._library_fds
        pid = _fork_logging_to(log_path, child, request, keep)
        address = http.getsockname()[:2] if http is not None else None
        started = Started(ref=request.ref, pid=pid, start_time=time.monotonic(), http_address=address)
        self._living[pid] = _Living(started, request.listen)
        return started

    def signal(self, ref: str, signum: int) -> None:
        """SIGKILL goes to the whole group; a child that has gone is no error. Raises OSError for an unknown signal."""
        pid = self.pid_of(ref)
        if pid is None:
            return
        if signum == signal.SIGKILL:
            _kill_group(pid)
        os.kill(pid, signum)

    def signal_all(self, signum: int) -> None:
        for pid in self._living:
            os.kill(pid, signum)

    def reap(self) -> list[Exited]:
        """Buries every child that has ended, adopted orphans too, and tells of those that were started here."""
        exits = []
        while (found := _next_ended()) is not None:
            _kill_group(found.si_pid)
            os.waitid(os.P_PID, found.si_pid, os.WEXITED)
            self._stopped.discard(found.si_pid)
            living = self._living.pop(found.si_pid, None)
            if living is None:
                continue
            if living.listen_path:
                unlink_socket(living.listen_path)
                unlink_socket(calls_path(living.listen_path))
            status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            exits.append(Exited(ref=living.started.ref, pid=found.si_pid, status=status))
        return exits

    def turned(self) -> list[Suspended]:
        """What was stopped by a signal, or goes on, since the last call; the kernel tells by SIGCHLD.

        A process that a debugger holds is not stopped in this sense.
        """
        news = []
        while (found := _next_turned()) is not None:
            stopped = found.si_code == os.CLD_STOPPED
            (self._stopped.add if stopped else self._stopped.discard)(found.si_pid)
            if (living := self._living.get(found.si_pid)) is not None:
                news.append(Suspended(ref=living.started.ref, stopped=stopped))
        return news

    def stopped(self) -> list[str]:
        """Refs of the children that are stopped now."""
        return [living.started.ref for pid, living in self._living.items() if pid in self._stopped]

    def kill_all(self, timeout_s: float) -> None:
        """SIGKILLs the groups and then all descendants that the kernel hands over, until none is left.

        Gives up after `timeout_s`, for a process may hang in the kernel.
        """
        deadline = time.monotonic() + timeout_s
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        for pid in self._living:
            _kill_group(pid)
        self.reap()
        while (left := children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, deadline - time.monotonic()))
            self.reap()


def _fork_logging_to(log_path: str, child: Child, request: StartChild, keep: frozenset[int]) -> int:
    try:
        os.makedirs(os.path.dirname(log_path), mode=0o700, exist_ok=True)
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError("internal", f"Log file '{log_path}' cannot be opened: {error.strerror}.") from error
    birth = Birth(
        child, request.module, log_fd, request.env, request.cwd, keep, request.python, tuple(request.holds)
    )
    try:
        pid = fork_child(birth)
    except OSError as error:
        os.close(log_fd)
        raise EngineError("internal", f"'{request.ref}' could not be forked: {error.strerror}.") from error
    except EngineError:
        os.close(log_fd)
        raise
    os.close(log_fd)
    return pid


def _next_ended() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # no children at all
        return None


def _next_turned() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
    except ChildProcessError:  # no children at all
        return None


def _kill_group(pid: int) -> None:
    """The group of an unreaped child; it has none of its own when it died before setsid, or is an adopted orphan."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _file_name(ref: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", ref)[:200] + ".log"
