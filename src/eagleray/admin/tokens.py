"""The tokens of an instance: made once, kept in files that only their owner can read, compared in constant time.

Whoever can read the files is the user whom the instance belongs to. Tokens never go to logs, arguments of a process or
the environment.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass
from enum import IntEnum

TOKEN_BYTES = 32
"""Of randomness: nobody guesses that, however often they may try."""

ADMIN_FILE, READ_FILE = "admin.token", "readonly.token"
"""Names of the token files in an instance's runtime directory."""

URL_FILE = "admin.url"
"""Beside them: where the REST server listens."""


class Role(IntEnum):
    """What a caller may do; each role includes the smaller ones."""

    NONE = 0
    READ = 1
    ADMIN = 2


@dataclass(frozen=True, repr=False)
class Tokens:
    """Without a repr, so that they end up in no log by accident."""

    admin: bytes
    read: bytes

    def role_of(self, token: bytes) -> Role:
        """Takes as long for a wrong token as for a right one."""
        is_admin = hmac.compare_digest(token, self.admin)
        is_reader = hmac.compare_digest(token, self.read)
        return Role.ADMIN if is_admin else Role.READ if is_reader else Role.NONE


def load_or_make_tokens(directory: str) -> Tokens:
    """Those that a former controller of the instance has left in `directory`, else new ones. Raises OSError."""
    return Tokens(*(_load_or_make(os.path.join(directory, name)) for name in (ADMIN_FILE, READ_FILE)))


def _load_or_make(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            token = file.read().strip()
        if len(token) >= TOKEN_BYTES:
            return token
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(TOKEN_BYTES).encode()
    write_private(path, token + b"\n")
    return token


def write_private(path: str, data: bytes) -> None:
    """Replaces the file at `path`, mode 0600: it is whole or not there, also after a crash. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(data)
    os.replace(temporary, path)
