"""A child that becomes another interpreter: that of the environment which its replica or builder needs.

It is forked like any other and has settled when it execs, so its session, its descriptors and the signal that comes
when node dies are the same; what it was given crosses in a memory file. Nothing here knows what an environment is.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import msgspec

from eagleray.base.process import Child, ignore_signal

if TYPE_CHECKING:
    from eagleray.engine.zygote import Birth

LOCK_FILE = ".ready"
"""The file in a held directory that is locked."""

_held: list[int] = []


class _Passed(msgspec.Struct):
    """A birth without what has been settled before the exec."""

    ref: str
    module: str
    payload: bytes
    listener: int
    http_listener: int
    parent_fd: int
    node_fd: int
    runtime_dir: str
    log_path: str
    holds: tuple[str, ...]


def hold(directories: Iterable[str]) -> None:
    """Locks them for the life of this process; raises OSError when one has gone."""
    for directory in directories:
        fd = os.open(os.path.join(directory, LOCK_FILE), os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
        _held.append(fd)


def become(birth: Birth) -> NoReturn:
    """Replaces this process; raises OSError when the interpreter cannot be run."""
    child = birth.child
    passed = _Passed(
        ref=child.ref,
        module=birth.module,
        payload=child.payload,
        listener=child.listener.detach() if child.listener is not None else -1,
        http_listener=child.http_listener.detach() if child.http_listener is not None else -1,
        parent_fd=child.parent_fd,
        node_fd=child.node_fd,
        runtime_dir=child.runtime_dir,
        log_path=child.log_path,
        holds=birth.holds,
    )
    memory = os.memfd_create("birth")
    with os.fdopen(os.dup(memory), "wb") as file:
        file.write(msgspec.msgpack.encode(passed))
    os.lseek(memory, 0, os.SEEK_SET)
    for fd in (memory, passed.listener, passed.http_listener, passed.parent_fd, passed.node_fd):
        if fd >= 0:
            os.set_inheritable(fd, True)
    folder = os.path.dirname(birth.python)
    os.environ["VIRTUAL_ENV"] = os.path.dirname(folder)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])
    # -P: the working directory is the user's, and must not shadow what the runtime imports.
    os.execv(birth.python, [birth.python, "-P", "-m", "eagleray.engine.exec", str(memory)])


def _read_passed(memory: int) -> tuple[Child, str]:
    with os.fdopen(memory, "rb") as file:
        passed = msgspec.msgpack.decode(file.read(), type=_Passed)
    for fd in (passed.listener, passed.http_listener, passed.parent_fd, passed.node_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)
    hold(passed.holds)
    child = Child(
        ref=passed.ref,
        payload=passed.payload,
        listener=_socket(passed.listener),
        http_listener=_socket(passed.http_listener),
        parent_fd=passed.parent_fd,
        node_fd=passed.node_fd,
        runtime_dir=passed.runtime_dir,
        log_path=passed.log_path,
    )
    return child, passed.module


def _socket(fd: int) -> socket.socket | None:
    if fd < 0:
        return None
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def main() -> NoReturn:
    """Entry after the exec, with the number of the memory file as the only argument."""
    signal.signal(signal.SIGINT, ignore_signal)
    from eagleray.engine import zygote  # it imports this module

    child, name = _read_passed(int(sys.argv[1]))
    sys.argv[1:] = []
    sys.modules["__main__"] = ModuleType("__main__")
    zygote.name_process(name)
    zygote.run_role(lambda: zygote.play(name, child))


if __name__ == "__main__":
    main()
