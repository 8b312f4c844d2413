"""Identifiers: who is who in text form, and where fresh ones come from."""

from __future__ import annotations

import os
import random
from typing import NamedTuple

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class DeploymentID(NamedTuple):
    """A deployment inside an application. `key` is its form in tables and on the wire."""

    name: str
    app_name: str = "default"

    @property
    def key(self) -> str:
        return f"{self.app_name}#{self.name}"

    @classmethod
    def parse(cls, key: str) -> DeploymentID:
        app_name, _, name = key.partition("#")
        return cls(name, app_name)

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"

    def __repr__(self) -> str:
        return str(self)


class ReplicaID(NamedTuple):
    """One replica of a deployment; `unique_id` is 8 characters."""

    unique_id: str
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        return f"SERVE_REPLICA::{self.deployment_id.key}#{self.unique_id}"

    def __str__(self) -> str:
        name, app = self.deployment_id
        return f"Replica(id='{self.unique_id}', deployment='{name}', app='{app}')"

    def __repr__(self) -> str:
        return str(self)


def new_unique_id(length: int = 8) -> str:
    """A random lower-case id; not a secret."""
    return "".join(random.choices(_ALPHABET, k=length))


def new_request_id() -> str:
    """A random UUID4 in text form; not a secret, so it does not cost a system call each. From any thread."""
    try:
        return _request_ids.pop()
    except IndexError:
        made = _make_request_ids()
        _request_ids.extend(made[1:])
        return made[0]


_request_ids: list[str] = []
"""Made ahead: one by one they cost twice as much."""


def _make_request_ids() -> list[str]:
    """64 of them; they share their second half, which is as random as each one's first."""
    text = random.randbytes(64 * 8).hex()
    last = f"{1 << 63 | random.getrandbits(62):x}"
    tail = f"-{last[:4]}-{last[4:]}"
    return [
        f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-4{text[at + 12 : at + 15]}{tail}"
        for at in range(0, len(text), 16)
    ]


def reseed_after_fork() -> None:
    """Gives a forked child its own ids: children of one zygote would otherwise draw the same ones."""
    random.seed(os.urandom(16))
    _request_ids.clear()
