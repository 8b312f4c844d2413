"""Names of log files: who writes where, and how a file that is kept elsewhere is found.

All files of an instance are in its directory of logs, or have a link there. A name is made of parts joined by `_`, in
each of which only `A-Za-z0-9.-` are left as they are; whatever has rotated a file away has put `.1`, `.2` behind it.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator

_MAX_NAME = 60
"""Characters of an application's or deployment's name in a file name."""

_LINK = ".link"


def safe_name(name: str) -> str:
    """`name` as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:_MAX_NAME]


def file_name(*parts: str) -> str:
    """`replica_app_deployment_id.log`."""
    return "_".join(map(safe_name, parts)) + ".log"


def leave_link(home: str, path: str) -> None:
    """Makes the file at `path` findable in `home`, the instance's directory of logs. A failure costs only that."""
    directory, name = os.path.split(path)
    if os.path.realpath(directory) == os.path.realpath(home):
        return
    link = os.path.join(home, f"{name}.{zlib.crc32(directory.encode(errors='replace')):08x}{_LINK}")
    try:
        os.symlink(path, link)
    except OSError:  # it is there already, or the disk is full
        pass


def list_files(home: str, pattern: re.Pattern[str]) -> Iterator[list[str]]:
    """Paths of all files whose name `pattern` matches in whole, also elsewhere, each with those that were rotated away.

    Of one writer the oldest comes first. `pattern` is of the name without `.1` and the like. Names that are gone
    meanwhile, or a `home` that is not there, are no error.
    """
    folders = [home]
    for name in _names(home):
        if name.endswith(_LINK) and pattern.fullmatch(name.removesuffix(_LINK).rpartition(".")[0]):
            with contextlib.suppress(OSError):  # it has gone
                folders.append(os.path.dirname(os.readlink(os.path.join(home, name))))
    for folder in dict.fromkeys(folders):
        found: dict[str, list[tuple[int, str]]] = {}
        for name in _names(folder):
            stem, _, number = name.rpartition(".")
            if pattern.fullmatch(name):
                found.setdefault(name, []).append((0, name))
            elif number.isdigit() and pattern.fullmatch(stem):
                found.setdefault(stem, []).append((-int(number), name))
        for files in found.values():
            yield [os.path.join(folder, name) for _, name in sorted(files)]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
