"""Directories of an instance: sockets in a private runtime directory, state and logs in a session that is kept a while.

Each directory is locked (flock) by whoever uses it and by nobody after their death, even by SIGKILL: so what is left of
dead instances can be told from living ones without pids, and the next instance removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from eagleray.base.clock import wall_time_s
from eagleray.base.settings import Settings, state_home

PREFIX = "eagleray-"
"""Of runtime directories; the rest of their names is random."""

MAX_RUNTIME_DIR_CHARS = 50
"""A Unix socket's path has at most 107; `<instance id>.sock` needs the rest."""

_MAX_HOME_CHARS = MAX_RUNTIME_DIR_CHARS - len(PREFIX) - 9

_NEWBORN_S = 5.0
"""A directory may be this young and not locked yet."""


def make_runtime_dir(settings: Settings) -> tuple[str, int]:
    """A new directory of mode 0700 and the descriptor that locks it, which the caller owns."""
    home = _runtime_home(settings)
    if home is None:
        home = Path(tempfile.gettempdir())
        if len(str(home)) + len(PREFIX) + 8 > MAX_RUNTIME_DIR_CHARS:
            home = Path("/tmp")
    _remove_dead(_own_dirs(home))
    path = tempfile.mkdtemp(prefix=PREFIX, dir=home)
    return path, _lock_new(path)


def runtime_dirs(settings: Settings) -> list[str]:
    """Runtime directories of this user that may be those of running instances, the youngest first."""
    homes = {_runtime_home(settings), Path(tempfile.gettempdir()), Path("/tmp")}
    found = [path for home in homes if home is not None for path in _own_dirs(home)]
    main = [
        home / name for home in homes if home is not None for name in ("main", f"{PREFIX}main-{os.getuid()}")
    ]
    found += [path for path in main if _is_private(path)]
    return [str(path) for path in sorted(found, key=_made_at, reverse=True)]


def make_session_dir(settings: Settings) -> tuple[str, int]:
    """A new session directory and the descriptor that locks it; older sessions than the last few are removed."""
    sessions = Path(state_home(settings), "sessions")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(wall_time_s()))
    try:
        sessions.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = tempfile.mkdtemp(prefix=f"{stamp}-{os.getpid()}-", dir=sessions)
    except OSError:  # a read-only home, as in many containers
        path = tempfile.mkdtemp(prefix=f"{PREFIX}session-")
        return path, _lock_new(path)
    lock = _lock_new(path)
    kept = sorted((entry for entry in sessions.iterdir() if entry.is_dir()), reverse=True)
    _remove_dead(kept[max(1, settings.keep_sessions) :])
    return path, lock


def main_runtime_dir(settings: Settings) -> str:
    """Where the sockets of this user's detached instance are; OSError when others may write there.

    Always the same path, so that later commands find it. So a home that was asked for and is not fit is an
    OSError, too: elsewhere there may be another instance, which nobody has meant.
    """
    home = _runtime_home(settings)
    if home is None and (wanted := settings.runtime_home):
        raise PermissionError(
            f"EAGLERAY_RUNTIME_HOME={wanted!r} must be a directory of yours that nobody else may enter (mode 0700), "
            f"and its path have at most {_MAX_HOME_CHARS} characters."
        )
    path = Path("/tmp", f"{PREFIX}main-{os.getuid()}") if home is None else home / "main"
    if os.path.lexists(path) and not _is_private(path):
        raise PermissionError(f"{path} must be a directory of yours that nobody else may enter; remove it.")
    return str(path)


def main_state_dir(settings: Settings) -> str:
    """Where the detached instance keeps its state and logs over all its lives."""
    return settings.state_dir or os.path.join(state_home(settings), "main")


def remove_tree(path: str) -> None:
    """Removes a directory and all that is in it; what cannot be removed stays."""
    shutil.rmtree(path, ignore_errors=True)


def _runtime_home(settings: Settings) -> Path | None:
    wanted = settings.runtime_home
    if not wanted and os.environ.get("XDG_RUNTIME_DIR"):
        wanted = os.path.join(os.environ["XDG_RUNTIME_DIR"], "eagleray")
    if not wanted or len(wanted) > _MAX_HOME_CHARS:
        return None
    try:
        os.makedirs(wanted, mode=0o700, exist_ok=True)
        return Path(wanted) if _is_private(Path(wanted)) and os.access(wanted, os.W_OK | os.X_OK) else None
    except OSError:
        return None


def _own_dirs(home: Path) -> list[Path]:
    return [entry for entry in home.glob(f"{PREFIX}????????") if _is_private(entry)]


def _made_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it has gone meanwhile
        return 0.0


def _is_private(path: Path) -> bool:
    """A real directory of ours that nobody else may enter: others can make names in /tmp too."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _lock_new(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)  # shared: never waits, and still refuses the exclusive lock of a remover
    return fd


def _remove_dead(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            if wall_time_s() - path.stat().st_mtime < _NEWBORN_S:
                continue
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
