"""The StateStore protocol: transactions over tables of rows, and content-addressed blobs.

Calls block; whoever owns a store calls it from one thread at a time. Every implementation runs the contract suite in
`tests/contract/store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from eagleray.base.errors import EaglerayError


class StoreError(EaglerayError):
    """The store cannot be read or written; a transaction in which it is raised has changed nothing."""

    code = "store"


class BlobDamagedError(StoreError):
    """A blob is not what was stored under its digest: it must not be used."""


class Transaction(Protocol):
    """What can be done inside a transaction; it sees its own writes."""

    def get(self, table: str, key: str) -> bytes | None: ...

    def put(self, table: str, key: str, value: bytes) -> None: ...

    def delete(self, table: str, key: str) -> None:
        """A key that is not there is no error."""

    def scan(self, table: str) -> Iterator[tuple[str, bytes]]:
        """All (key, value) of a table in the order of keys."""

    def put_blob(self, data: bytes) -> str:
        """Stores `data` under its SHA-256 (hex), which it returns; the same blob again costs nothing."""

    def keep_blobs(self, digests: set[str]) -> None:
        """Deletes all other blobs."""


class StateStore(Protocol):
    """Durable state of one instance."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """All or nothing: what it did is durable when it ends, and undone when it raises. Raises StoreError."""

    def blob(self, digest: str) -> bytes:
        """Raises KeyError for an unknown digest, BlobDamagedError for one that does not check."""

    def close(self) -> None: ...
