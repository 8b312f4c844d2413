"""The instance that outlives its terminal: started by `eagleray start`, found by later commands, ended by `shutdown`.

There is one per user. Two locks, which node holds for as long as it lives, say that it runs: that of the runtime
directory, where its sockets are, and that of the state directory, which a later start takes up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
from dataclasses import dataclass

import msgspec

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings
from eagleray.engine.base import EngineError
from eagleray.engine.sessions import main_runtime_dir, main_state_dir, remove_tree
from eagleray.engine.spawn import spawn
from eagleray.rpc.unix import listen_unix
from eagleray.wire.control import NodeConfig

_END_S = 10.0
"""Node's own end takes at most 2 s, on a machine that has time."""


@dataclass(frozen=True)
class Places:
    """Directories of the detached instance; they need not exist."""

    runtime_dir: str
    state_dir: str

    @property
    def address(self) -> str:
        """Where its controller is called."""
        return f"unix:{self.runtime_dir}/controller.sock"

    @property
    def logs_dir(self) -> str:
        return os.path.join(self.state_dir, "logs")

    @classmethod
    def find(cls, settings: Settings) -> Places:
        """Those of this user; OSError when somebody else has made a directory of that name."""
        return cls(main_runtime_dir(settings), main_state_dir(settings))


def start_detached(config: NodeConfig, settings: Settings) -> tuple[Places, subprocess.Popen[bytes]]:
    """Starts node in a session of its own and returns it at once; its controller can be dialled.

    Node outlives this process. EngineError("exists") when it runs already: nothing has been touched then. ConfigError
    when the state would lie in the runtime directory, which each start empties.
    """
    places = Places.find(settings)
    _check_apart(places)
    for path in (places.state_dir, places.logs_dir):
        os.makedirs(path, mode=0o700, exist_ok=True)
    locks: list[int] = []
    try:
        for path in (_runtime_lock(places), os.path.join(places.state_dir, "lock")):
            lock = _try_lock(path)
            if lock is None:
                raise EngineError("exists", f"Eagleray is running already ({path} is locked).")
            locks.append(lock)
        remove_tree(places.runtime_dir)  # left by one that was killed
        os.mkdir(places.runtime_dir, 0o700)
        config = msgspec.structs.replace(
            config,
            runtime_dir=places.runtime_dir,
            state_dir=places.state_dir,
            logs_dir=places.logs_dir,
            owner_fd=-1,
            drain_delay_s=float(settings.drain_delay_s),
        )
        with listen_unix(os.path.join(places.runtime_dir, "controller.sock")) as control:
            config = msgspec.structs.replace(config, control_fd=control.fileno())
            process = spawn(config, [control.fileno(), *locks], [])
    finally:
        for lock in locks:
            os.close(lock)
    return places, process


def end_started(node: subprocess.Popen[bytes]) -> None:
    """Ends an instance that this process has just started, at once. What was deployed to its former lives is kept."""
    node.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.wait(_END_S)


def is_running(places: Places) -> bool:
    """Whether node lives; true for a moment after its last word, too."""
    try:
        lock = _try_lock(_runtime_lock(places))
    except OSError:
        return False
    if lock is None:
        return True
    os.close(lock)
    return False


def find_running(settings: Settings) -> Places | None:
    """The detached instance of this user while it runs. Makes no file, and trusts no directory but this user's own."""
    try:
        places = Places.find(settings)
        has_socket = stat.S_ISSOCK(os.lstat(places.address.removeprefix("unix:")).st_mode)
    except OSError:  # none has run, or somebody else has made a directory of that name
        return None
    return places if has_socket and is_running(places) else None


def _check_apart(places: Places) -> None:
    runtime, state = (os.path.realpath(path) for path in (places.runtime_dir, places.state_dir))
    if os.path.commonpath([runtime, state]) == runtime:
        raise ConfigError(
            f"{places.runtime_dir} would hold both the sockets, which are removed at each start, and the state, which "
            f"is kept in {places.state_dir}: give EAGLERAY_RUNTIME_HOME and EAGLERAY_STATE_HOME (or XDG_RUNTIME_DIR "
            f"and XDG_STATE_HOME) different directories."
        )


def _runtime_lock(places: Places) -> str:
    return f"{places.runtime_dir}.lock"


def _try_lock(path: str) -> int | None:
    """A descriptor that holds the lock until its last copy is closed; None when somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
