"""StateStore in one SQLite file: write-ahead log, every commit synced (synchronous=FULL).

Blobs are user code that replicas will unpickle, so each carries an HMAC by a key that only this user can read: a file
that somebody else has written into is noticed before anything of it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterator

from eagleray.store.base import BlobDamagedError, StoreError, Transaction

SCHEMA_VERSION = 1
"""Raised with every change of the layout; a file of another version is refused."""

_STATE_NAME, _KEY_NAME = "state.db", "instance.key"

_KEY_BYTES = 32
_BUSY_TIMEOUT_S = 5.0
"""A controller that was just killed may still hold the lock for a moment."""

_SCHEMA = (
    "CREATE TABLE rows (tab TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (tab, key)) WITHOUT ROWID",
    "CREATE TABLE blobs (digest TEXT PRIMARY KEY, mac BLOB NOT NULL, data BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class SqliteStore:
    """Owns the connection and the key. `directory` must exist; it should be of mode 0700."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, _STATE_NAME)
        try:
            require_key(directory)
            self._key = _load_key(os.path.join(directory, _KEY_NAME))
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.close(descriptor)
            # Opened by the controller's main thread, used by its store thread: never by both at once.
            self._db = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"Failed to open the state in '{self._path}': {error}.") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"Failed to read the state in '{self._path}': {error}.") from error
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute("COMMIT")
        elif version != SCHEMA_VERSION:
            raise StoreError(
                f"The state in '{self._path}' has schema {version}, this version of Eagleray reads {SCHEMA_VERSION}: "
                "start the version that wrote it, or move the file away."
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield _SqliteTransaction(self._db, self._key)
            except BaseException:
                self._roll_back()
                raise
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        except sqlite3.Error as error:
            raise StoreError(
                f"Failed to write the state in '{self._path}': {error}. Nothing has changed, running applications "
                "go on: look whether that disk is full or failing, then deploy again."
            ) from error

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors (a full disk), and says so by refusing.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def blob(self, digest: str) -> bytes:
        try:
            row = self._db.execute("SELECT mac, data FROM blobs WHERE digest = ?", (digest,)).fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"Failed to read the state in '{self._path}': {error}.") from error
        if row is None:
            raise KeyError(digest)
        mac, data = row
        if not hmac.compare_digest(mac, _mac(self._key, data)) or hashlib.sha256(data).hexdigest() != digest:
            raise BlobDamagedError(
                f"Blob {digest} in '{self._path}' was changed after it had been stored: deploy the application again."
            )
        return bytes(data)

    def close(self) -> None:
        self._db.close()


def require_key(directory: str) -> None:
    """Raises StoreError where there is state without the key that its blobs are signed by, OSError as it comes.

    The key is made before the state, so this is never a start that was cut short; an empty file is no state.
    """
    state, key = os.path.join(directory, _STATE_NAME), os.path.join(directory, _KEY_NAME)
    if os.path.lexists(key) or not os.path.exists(state) or not os.path.getsize(state):
        return
    raise StoreError(
        f"The key '{key}' is gone, and without it nobody can tell whether the code stored in '{state}' is what was "
        "deployed, so none of it is run: restore the key from a backup, or move the state away and deploy again."
    )


class _SqliteTransaction:
    __slots__ = ("_db", "_key")

    def __init__(self, db: sqlite3.Connection, key: bytes) -> None:
        self._db = db
        self._key = key

    def get(self, table: str, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM rows WHERE tab = ? AND key = ?", (table, key)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, table: str, key: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (table, key, value))

    def delete(self, table: str, key: str) -> None:
        self._db.execute("DELETE FROM rows WHERE tab = ? AND key = ?", (table, key))

    def scan(self, table: str) -> Iterator[tuple[str, bytes]]:
        found = self._db.execute(
            "SELECT key, value FROM rows WHERE tab = ? ORDER BY key", (table,)
        ).fetchall()
        return iter(found)

    def put_blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        # Replaced rather than ignored: a damaged blob is mended by deploying it again.
        self._db.execute(
            "INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", (digest, _mac(self._key, data), data)
        )
        return digest

    def keep_blobs(self, digests: set[str]) -> None:
        known = {digest for (digest,) in self._db.execute("SELECT digest FROM blobs")}
        self._db.executemany("DELETE FROM blobs WHERE digest = ?", [(digest,) for digest in known - digests])


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _load_key(path: str) -> bytes:
    """The instance's key, made on first use. Raises StoreError for one that others may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _make_key(path)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077 or status.st_uid != os.getuid():
            raise StoreError(f"The key '{path}' must belong to this user alone (mode 0600): chmod 600 it.")
        key = file.read()
    if len(key) != _KEY_BYTES:
        raise StoreError(f"The key '{path}' is damaged: move it away together with the state beside it.")
    return key


def _make_key(path: str) -> bytes:
    key = secrets.token_bytes(_KEY_BYTES)
    # Written beside and renamed: a crash leaves a whole key or none.
    beside = f"{path}.{os.getpid()}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    # Its name as well: what is signed with it may be on the disk before a power cut, and the key must be there then.
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key
