"""A state store in memory: what is committed outlives the controller, what is not is lost with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eagleray.store.base import StoreError


class Disk:
    """What is durable. `full` lets every write fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.full = False


class SimTransaction:
    """Works on copies, which take the place of the originals at the end."""

    def __init__(self, disk: Disk) -> None:
        self.rows = dict(disk.rows)
        self.blobs = dict(disk.blobs)

    def get(self, table: str, key: str) -> bytes | None:
        return self.rows.get((table, key))

    def put(self, table: str, key: str, value: bytes) -> None:
        self.rows[table, key] = value

    def delete(self, table: str, key: str) -> None:
        self.rows.pop((table, key), None)

    def scan(self, table: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, value) for (at, key), value in self.rows.items() if at == table))

    def put_blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def keep_blobs(self, digests: set[str]) -> None:
        self.blobs = {digest: data for digest, data in self.blobs.items() if digest in digests}


class SimStore:
    """One controller's way to the disk, which ends with the controller (`is_alive`)."""

    def __init__(self, disk: Disk, is_alive: Callable[[], bool]) -> None:
        self._disk = disk
        self._is_alive = is_alive

    @contextmanager
    def transaction(self) -> Iterator[SimTransaction]:
        if not self._is_alive():
            raise StoreError("its process is dead")
        transaction = SimTransaction(self._disk)
        before = (dict(transaction.rows), dict(transaction.blobs))
        yield transaction
        if (transaction.rows, transaction.blobs) != before:
            if self._disk.full:
                raise StoreError("the disk is full")
            self._disk.rows, self._disk.blobs = transaction.rows, transaction.blobs

    def blob(self, digest: str) -> bytes:
        return self._disk.blobs[digest]

    def close(self) -> None:
        """Nothing is held."""
