"""A role for children under test: obeys one JSON command a line on its own socket and answers with one line."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from eagleray.base.process import Child

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]


def main(child: Child) -> None:
    if child.payload == b"raise":
        raise RuntimeError("no weights")
    if child.payload.startswith(b"exit "):
        sys.exit(int(child.payload[5:]))
    if child.payload == b"deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert child.listener is not None
    child.listener.setblocking(True)
    while True:
        connection, _ = child.listener.accept()
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                name, *arguments = json.loads(line)
                stream.write(json.dumps(COMMANDS[name](child, *arguments)) + "\n")
                stream.flush()


def about(child: Child) -> dict[str, Any]:
    return {
        "payload": child.payload.decode(),
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "random": random.random(),
        "stack": [frame.name for frame in traceback.extract_stack()],
        "gc": gc.isenabled(),
        "threads": threading.active_count(),
        "wakeup": signal.set_wakeup_fd(-1),
        "given": [sock.fileno() for sock in (child.listener, child.http_listener) if sock is not None]
        + [child.parent_fd],
        "fds": {fd: _target(fd) for fd in map(int, os.listdir("/proc/self/fd"))},
        "main": sorted(vars(sys.modules["__main__"])),
    }


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def subprocess_of(child: Child) -> int:
    process = subprocess.Popen(SLEEP)
    process.returncode = 0  # it is meant to outlive its parent's interest
    return process.pid


def daemon_of(child: Child) -> int:
    """A process that has left the group and whose parent has ended."""
    code = f"import subprocess; print(subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=2).pid)"
    return int(subprocess.check_output([sys.executable, "-W", "ignore", "-c", code]))


def output(child: Child, text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)


COMMANDS: dict[str, Callable[..., Any]] = {
    "about": about,
    "subprocess": subprocess_of,
    "daemon": daemon_of,
    "print": output,
    "exit": lambda child, status: os._exit(status),
}
