"""Unpacking of zip files and wheels that may be hostile.

Every entry is looked at before the first byte is written, and bytes are counted as they come out, for what an archive
says of itself need not be true. Nothing is ever written outside the target; links and devices are refused.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from eagleray.base.errors import ConfigError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one archive may come to."""

    files: int = 100_000
    bytes: int = 4 << 30


def unpack(archive: str, target: str, *, strips_top: bool = False, limits: Limits | None = None) -> None:
    """Writes the files of `archive` below `target`, which is made. Half of it may be there after an error.

    `strips_top`: a single directory at the top is left out, as for archives that a forge makes. Raises ConfigError
    that names archive and entry.
    """
    limits = limits or Limits()
    try:
        with zipfile.ZipFile(archive) as found:
            entries = [(entry, _check_entry(archive, entry)) for entry in found.infolist()]
            if len(entries) > limits.files:
                raise _refusal(archive, f"has {len(entries)} files, more than {limits.files}")
            tops = {path.parts[0] for _, path in entries if path.parts}
            is_nested = all(entry.is_dir() or len(path.parts) > 1 for entry, path in entries)
            drop = 1 if strips_top and len(tops) == 1 and is_nested else 0
            os.makedirs(target, mode=0o700, exist_ok=True)
            left = limits.bytes
            for entry, path in entries:
                left = _write(found, entry, os.path.join(target, *path.parts[drop:]), left)
                if left < 0:
                    raise _refusal(archive, f"unpacks to more than {limits.bytes} bytes")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _refusal(archive, f"is no zip file that can be read ({error})") from None
    except OSError as error:
        raise ConfigError(
            f"'{archive}' cannot be unpacked to '{target}': {error.strerror or error}."
        ) from None


def _check_entry(archive: str, entry: zipfile.ZipInfo) -> PurePosixPath:
    name = entry.filename
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or "\0" in name or ":" in name.partition("/")[0]:
        raise _refusal(archive, f"has an entry with an absolute or foreign path: {name!r}")
    if ".." in path.parts:
        raise _refusal(archive, f"has an entry that leads out of it: {name!r}")
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise _refusal(archive, f"has a symbolic link, which could lead out of it: {name!r}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(archive, f"has a device or pipe: {name!r}")
    return path


def _write(found: zipfile.ZipFile, entry: zipfile.ZipInfo, target: str, left: int) -> int:
    """Returns how many bytes are left, below 0 as soon as it is too much."""
    if entry.is_dir():
        os.makedirs(target, mode=0o700, exist_ok=True)
        return left
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    executable = (entry.external_attr >> 16) & 0o100
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(target, flags, 0o700 if executable else 0o600)
    with os.fdopen(fd, "wb") as out, found.open(entry) as source:
        while left >= 0 and (chunk := source.read(_CHUNK_BYTES)):
            left -= len(chunk)
            if left >= 0:
                out.write(chunk)
    return left


def link_module(path: str, target: str) -> None:
    """Makes `target` a directory in which the module at `path`, a folder or a file, is found by its own name."""
    os.makedirs(target, mode=0o700)
    os.symlink(path, os.path.join(target, os.path.basename(path)))


def remove(path: str) -> None:
    """A directory and all in it, as far as that can be."""
    shutil.rmtree(path, ignore_errors=True)


def _refusal(archive: str, text: str) -> ConfigError:
    return ConfigError(
        f"'{archive}' {text}. Nothing of it is used: make it anew, with plain files and folders only."
    )
