"""The state store from the event loop: one thread of its own, because a commit waits for the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eagleray.base.errors import ConfigError
from eagleray.store.base import StateStore

R = TypeVar("R")

Rows = Mapping[tuple[str, str], bytes | None]
"""(table, key) -> value, None: deleted."""


class Storage:
    """Owns the store and its thread. Operations run in the order in which they were called."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eagleray-store")

    async def load(self, tables: tuple[str, ...]) -> list[tuple[str, str, bytes]]:
        """All rows of `tables` as (table, key, value)."""
        return await self._run(self._load, tables)

    async def commit(
        self, rows: Rows, blobs: Mapping[str, bytes] | None = None, keep: set[str] | None = None
    ) -> None:
        """One transaction: rows, new blobs, and with `keep` the end of all other blobs.

        Raises StoreError, or ConfigError for a blob that is not what its digest says; nothing has changed then.
        """
        await self._run(self._commit, rows, blobs or {}, keep)

    async def blob(self, digest: str) -> bytes:
        """Raises KeyError or StoreError."""
        return await self._run(self._store.blob, digest)

    async def close(self) -> None:
        """Waits for what was begun."""
        await self._run(self._store.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _load(self, tables: tuple[str, ...]) -> list[tuple[str, str, bytes]]:
        with self._store.transaction() as transaction:
            return [(table, key, value) for table in tables for key, value in transaction.scan(table)]

    def _commit(self, rows: Rows, blobs: Mapping[str, bytes], keep: set[str] | None) -> None:
        for digest, data in blobs.items():
            if hashlib.sha256(data).hexdigest() != digest:
                raise ConfigError(
                    f"Blob {digest} does not have this SHA-256: it was damaged on its way here."
                )
        with self._store.transaction() as transaction:
            for data in blobs.values():
                transaction.put_blob(data)
            for (table, key), value in rows.items():
                if value is None:
                    transaction.delete(table, key)
                else:
                    transaction.put(table, key, value)
            if keep is not None:
                transaction.keep_blobs(keep)
