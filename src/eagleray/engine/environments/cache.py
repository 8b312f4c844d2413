"""Directories by content hash: made once, by one process at a time, and used by all.

A directory counts when its `.ready` file is there, which is put there last; anything else is the rest of a process
that died and is made anew. Whoever runs in one holds a shared lock on that file (`engine.exec.hold`), and what nobody
holds goes when all together are too big, longest unused first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings
from eagleray.engine.environments.archive import remove
from eagleray.engine.exec import LOCK_FILE

_FRESH_S = 600.0
"""What was used within this is kept: its process may be about to start."""


def cache_home(settings: Settings) -> str:
    """The directory of all of them, made with mode 0700. ConfigError when it cannot be, or is another user's."""
    home = settings.environment_home or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "eagleray", "environments"
    )
    home = os.path.abspath(home)
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        found = os.stat(home)
    except OSError as error:
        raise ConfigError(
            f"The directory of environments '{home}' cannot be made: {error.strerror}. Set EAGLERAY_ENVIRONMENT_HOME "
            f"to one that can."
        ) from None
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"Others may write to the directory of environments '{home}': chmod 700 it, or set "
            f"EAGLERAY_ENVIRONMENT_HOME to one of your own."
        )
    return home


class Cache:
    """The directories below `home`; `limit_bytes` bounds them together, as far as they are not in use."""

    def __init__(self, home: str, limit_bytes: int) -> None:
        self.home = home
        self._limit_bytes = limit_bytes

    def get(self, name: str, make: Callable[[str], None], proof: str) -> str:
        """The directory `name`, by `make(path)` when it is not there; whatever that raises leaves nothing.

        `proof` is a path in it. Without that it counts as not there: those who clean up caches look at the age of
        files, not at what belongs together.
        """
        path = os.path.join(self.home, name)
        with self._locked(name):
            marker = os.path.join(path, LOCK_FILE)
            if not (os.path.exists(marker) and os.path.exists(os.path.join(path, proof))):
                remove(path)
                try:
                    make(path)
                    size = _size(path)
                    with open(f"{marker}.new", "w", encoding="ascii") as file:
                        file.write(str(size))
                    os.replace(f"{marker}.new", marker)
                except BaseException:
                    remove(path)
                    raise
                self.collect(keep=name)
            os.utime(marker)
        return path

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        fd = os.open(os.path.join(self.home, f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def collect(self, keep: str = "") -> list[str]:
        """Removes what is too much and not in use; returns the names."""
        found = []
        for entry in os.scandir(self.home):
            marker = os.path.join(entry.path, LOCK_FILE)
            with contextlib.suppress(OSError, ValueError), open(marker, encoding="ascii") as file:
                found.append((os.stat(marker).st_mtime, entry.name, int(file.read())))
        total = sum(size for _, _, size in found)
        gone = []
        for used_at, name, size in sorted(found):
            if total <= self._limit_bytes or name == keep or time.time() - used_at < _FRESH_S:
                continue
            if self._remove_unused(name):
                total -= size
                gone.append(name)
        return gone

    def _remove_unused(self, name: str) -> bool:
        path = os.path.join(self.home, name)
        try:
            fd = os.open(os.path.join(path, LOCK_FILE), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(os.path.join(path, LOCK_FILE))  # from here on it does not count
            remove(path)
        except OSError:  # in use
            return False
        finally:
            os.close(fd)
        return True


def _size(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_size
    return total
