"""Does a piece of work in one process after the other, each killed (SIGKILL) before another system call of it.

    python -m tests.fault.crash.at_each_call WORK DIRECTORY

After each death the same work is done by a process that nobody kills, with what the dead one has left: it must succeed.
Python's profiler shows the calls, in the modules that do the work; those that touch no file, socket or process are left
out. Prints before which calls processes have died.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.waiting import wait_until

from eagleray.admin import tokens
from eagleray.base.settings import Settings
from eagleray.engine import detached, sessions, spawn
from eagleray.engine.environments import cache
from eagleray.engine.linux import kill_by_environment
from eagleray.rpc import unix
from eagleray.store import sqlite

_TOUCHING = ("posix", "fcntl", "_io", "sqlite3", "_socket", "socket")
"""Modules whose functions and objects leave traces outside of the process."""

_PURE = ("fspath", "fileno", "getpid", "getuid")
"""And which leave none."""

MARK = "CRASH_AT"
"""Environment variable by which processes are found that nobody can wait for."""


def keep_state(home: Path) -> None:
    """The key, the store and its schema, a row and a blob."""
    home.mkdir(0o700, exist_ok=True)
    store = sqlite.SqliteStore(str(home))
    with store.transaction() as transaction:
        row = transaction.get("table", "key")
        digest = transaction.put_blob(b"code") if row is None else row.decode()
        transaction.put("table", "key", digest.encode())
    assert store.blob(digest) == b"code", "what one life has signed another one reads"
    store.close()


def keep_tokens(home: Path) -> None:
    """Tokens and address of the REST server: who could read a token may use it ever after."""
    home.mkdir(0o700, exist_ok=True)
    there = {
        path: path.read_bytes()
        for path in (home / tokens.ADMIN_FILE, home / tokens.READ_FILE)
        if path.exists()
    }
    found = tokens.load_or_make_tokens(str(home))
    assert all(token.strip() in (found.admin, found.read) for token in there.values())
    tokens.write_private(str(home / tokens.URL_FILE), b"http://127.0.0.1:1\n")
    assert (home / tokens.URL_FILE).read_bytes() == b"http://127.0.0.1:1\n"


def make_environment(home: Path) -> None:
    """A directory by content: nobody may use half of one."""
    home.mkdir(0o700, exist_ok=True)

    def make(path: str) -> None:
        os.makedirs(f"{path}/bin")
        for name in ("python", "tool"):
            Path(path, "bin", name).write_text(name)

    path = cache.Cache(str(home), 1 << 30).get("digest", make, "bin/python")
    assert sorted(os.listdir(f"{path}/bin")) == ["python", "tool"]


def make_session(home: Path) -> None:
    """Directories of an instance that ends with its driver."""
    settings = Settings(runtime_home=str(home / "run"), state_home=str(home / "state"), keep_sessions=1)
    runtime_dir, _ = sessions.make_runtime_dir(settings)
    session, _ = sessions.make_session_dir(settings)
    assert os.listdir(runtime_dir) == os.listdir(session) == []


def start_instance(home: Path) -> None:
    """That of `eagleray start`: it runs, whoever has started it, or it does not and can be started."""
    os.environ[MARK] = str(home)
    settings = Settings(runtime_home=str(home / "run"), state_home=str(home / "state"))
    places = detached.Places.find(settings)
    if _runs(places):
        kill_by_environment(MARK, str(home))
    wait_until(lambda: not detached.is_running(places), "the end of a node without a config")
    config = spawn.node_config(controller_module="tests.contract.engine.puppet", http_port=0)
    detached.start_detached(config, settings)
    sys.setprofile(None)
    assert _runs(places)
    kill_by_environment(MARK, str(home))


def _runs(places: detached.Places) -> bool:
    """Whether there is a node that has got as far as its controller."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        try:
            client.connect(places.address.removeprefix("unix:"))
            return bool(client.recv(16))
        except (FileNotFoundError, ConnectionError):
            return False


WORKS: dict[str, tuple[Callable[[Path], None], tuple[Any, ...]]] = {
    "state": (keep_state, (sqlite,)),
    "tokens": (keep_tokens, (tokens,)),
    "environment": (make_environment, (cache, sys.modules[__name__])),
    "session": (make_session, (sessions,)),
    "instance": (start_instance, (detached, spawn, unix)),
}
"""What is done, and the modules whose calls are counted."""


def _arm(files: set[str], struck: Path) -> None:
    """This process dies before the first call before which none has died yet; `struck` names those."""
    known = set(struck.read_text().splitlines()) if struck.exists() else set()
    times: Counter[str] = Counter()

    def look(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and frame.f_code.co_filename in files and _touches(called):
            call = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {called.__name__}"
            times[call] += 1
            if (call := f"{call} {times[call]}") not in known:
                struck.write_text("\n".join([*known, call]))
                print(call, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(look)


def _touches(called: Any) -> bool:
    owner = getattr(called, "__self__", None)
    return called.__name__ not in _PURE and (called.__module__ or type(owner).__module__) in _TOUCHING


def _in_child(work: Callable[..., None], *arguments: Any) -> int:
    """Its exit status, or minus the signal."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        work(*arguments)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(name: str, directory: Path) -> None:
    """Ends with an error when a process could not go on from what a dead one has left."""
    work, modules = WORKS[name]
    files = {"<frozen os>", tempfile.__file__, shutil.__file__, *(module.__file__ for module in modules)}
    # A start takes a second: there each life goes on from what the dead before it have left, and dies a call later.
    is_one_home = work is start_instance

    def mortal(home: Path) -> None:
        _arm(files, directory / "struck")
        work(home)
        sys.setprofile(None)

    for number in itertools.count():
        home = directory / ("one" if is_one_home else f"{number}")
        status = _in_child(mortal, home)
        if status == 0:
            return
        if status != -signal.SIGKILL:
            sys.exit(f"death {number}: a process that was to die has ended with {status}; {home}")
        if not is_one_home and _in_child(work, home):
            sys.exit(f"death {number}: nobody could go on from what was left in {home}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
