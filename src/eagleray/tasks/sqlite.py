"""TaskQueue in an SQLite file that the processes of one machine share, or in the memory of one process.

Leases are told by CLOCK_MONOTONIC, which all processes of a machine share; beside each stands the boot that it belongs
to, and after a reboot all of them have run out. Wall time is only shown, and says how old a result is.

Another process's commit makes no sound, so an idle consumer looks: a read of one page, 20 times a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from time import monotonic
from typing import Any
from uuid import uuid4

from eagleray.base.clock import wall_time_s
from eagleray.tasks.record import (
    ENDED,
    FAILURE,
    PENDING,
    RETRY,
    REVOKED,
    STARTED,
    SUCCESS,
    Claim,
    Counts,
    NewTask,
    TaskNotFoundError,
    TaskQueueError,
    TaskState,
)

MEMORY = ":memory:"

_LOOK_S = 0.05
"""Seconds between two looks of an idle consumer; a read of the file's change counter costs microseconds."""

_BUSY_S = 30.0
"""Another process may hold the file for one small transaction, synced to a slow disk."""

_SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE tasks (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, queue TEXT NOT NULL, "
    "name TEXT NOT NULL, payload TEXT NOT NULL, status TEXT NOT NULL, created_at REAL NOT NULL, ended_at REAL, "
    "attempts INTEGER NOT NULL DEFAULT 0, losses INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, boot TEXT NOT NULL, "
    "token TEXT NOT NULL DEFAULT '', result TEXT)",
    "CREATE INDEX open_tasks ON tasks (queue, seq) WHERE ended_at IS NULL",
    "CREATE INDEX ended_tasks ON tasks (ended_at) WHERE ended_at IS NOT NULL",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)

_DUE = "queue = ? AND ended_at IS NULL AND (due <= ? OR boot != ?)"
"""`due` is when a waiting task may begin, and when the lease of a running one ends."""


class SqliteTaskQueue:
    """Owns its connection. The file is made with mode 0600; its directory must exist."""

    def __init__(self, path: str, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._boot = _boot_id()
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._seen = 0
        try:
            if path != MEMORY:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            # Text that is no UTF-8 makes one task unprocessable; refused, it would hold up the queue for ever.
            self._db.text_factory = lambda text: text.decode(errors="backslashreplace")
        except (OSError, sqlite3.Error) as error:
            raise TaskQueueError(f"Failed to open the task queue in '{path}': {error}.") from error
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._guarded():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
            elif version != _SCHEMA_VERSION:
                raise TaskQueueError(
                    f"The task queue in '{self._path}' has schema {version}, this version of Eagleray reads "
                    f"{_SCHEMA_VERSION}: use the version that wrote it, or name another file."
                )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise TaskQueueError(f"The task queue in '{self._path}' failed: {error}.") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # ---- putting and claiming ----------------------------------------------------------------------------------

    def put(self, queue: str, task: NewTask) -> None:
        with self._transaction() as db:
            self._insert(db, queue, task)
        self._tell()

    def _insert(self, db: sqlite3.Connection, queue: str, task: NewTask) -> None:
        db.execute(
            "INSERT INTO tasks (id, queue, name, payload, status, created_at, due, boot) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (
                task.id,
                queue,
                task.name,
                task.payload,
                PENDING,
                task.created_at,
                self._clock() + task.delay_s,
                self._boot,
            ),
        )

    def claim(self, queue: str, lease_s: float) -> Claim | None:
        with self._guarded():  # without a write lock, which idle consumers would hold all the time
            if self._first_due(queue) is None:
                return None
        with self._transaction() as db:
            row = self._first_due(queue)
            if row is None:
                return None
            seq, task_id, name, payload, status, attempts, losses = row
            token = uuid4().hex
            losses += status == STARTED
            db.execute(
                "UPDATE tasks SET status = ?, token = ?, losses = ?, due = ?, boot = ? WHERE seq = ?",
                (STARTED, token, losses, self._clock() + lease_s, self._boot, seq),
            )
            return Claim(task_id, token, name, payload, attempts, losses)

    def _first_due(self, queue: str) -> Any:
        return self._db.execute(
            f"SELECT seq, id, name, payload, status, attempts, losses FROM tasks WHERE {_DUE} ORDER BY seq LIMIT 1",
            (queue, self._clock(), self._boot),
        ).fetchone()

    def wait(self, queue: str, timeout_s: float) -> None:
        end = monotonic() + timeout_s
        while monotonic() < end:
            with self._guarded():
                (version,) = self._db.execute("PRAGMA data_version").fetchone()
                if version != self._seen or self._first_due(queue) is not None:
                    self._seen = version
                    return
            with self._news:
                self._news.wait(_LOOK_S)

    def _tell(self) -> None:
        """Consumers of this process need not look."""
        with self._news:
            self._news.notify_all()

    # ---- what becomes of a claim -------------------------------------------------------------------------------

    def renew(self, claims: Sequence[Claim], lease_s: float) -> list[str]:
        lost = []
        with self._transaction() as db:
            for claim in claims:
                if not _update(db, claim, "due = ?, boot = ?", self._clock() + lease_s, self._boot):
                    lost.append(claim.token)
        return lost

    def succeed(self, claim: Claim, result: str) -> bool:
        with self._transaction() as db:
            return _end(db, claim, SUCCESS, result)

    def retry(self, claim: Claim, delay_s: float, error: str) -> bool:
        with self._transaction() as db:
            changes = "status = ?, token = '', attempts = attempts + 1, due = ?, boot = ?, result = ?"
            due = self._clock() + delay_s
            return _update(db, claim, changes, RETRY, due, self._boot, json.dumps(error))

    def fail(self, claim: Claim, error: str, copy_to: str | None) -> bool:
        with self._transaction() as db:
            if not _end(db, claim, FAILURE, json.dumps(error)):
                return False
            if copy_to is not None:
                copy = NewTask(uuid4().hex, claim.name, claim.payload, wall_time_s())
                self._insert(db, copy_to, copy)
        self._tell()
        return True

    def release(self, claim: Claim) -> bool:
        with self._transaction() as db:
            changes = "status = ?, token = '', due = ?"
            done = _update(db, claim, changes, RETRY if claim.attempts else PENDING, self._clock())
        self._tell()
        return done

    # ---- for whoever looks -------------------------------------------------------------------------------------

    def find(self, task_id: str) -> TaskState | None:
        with self._guarded():
            row = self._db.execute(
                "SELECT id, status, created_at, result FROM tasks WHERE id = ?", (task_id,)
            ).fetchone()
        return None if row is None else TaskState(*row)

    def cancel(self, task_id: str) -> bool:
        with self._transaction() as db:
            row = db.execute("SELECT status FROM tasks WHERE id = ?", (task_id,)).fetchone()
            if row is None:
                raise TaskNotFoundError(f"There is no task '{task_id}' in '{self._path}'.")
            if row[0] in ENDED:
                return False
            db.execute(
                "UPDATE tasks SET status = ?, token = '', ended_at = ? WHERE id = ?",
                (REVOKED, wall_time_s(), task_id),
            )
            return True

    def counts(self, queue: str) -> Counts:
        with self._guarded():
            now, boot = self._clock(), self._boot
            running, delayed, total = self._db.execute(
                "SELECT coalesce(sum(status = ?), 0), coalesce(sum(status != ? AND due > ? AND boot = ?), 0), count(*) "
                "FROM tasks WHERE queue = ? AND ended_at IS NULL",
                (STARTED, STARTED, now, boot, queue),
            ).fetchone()
        return Counts(total - running - delayed, running, delayed)

    def forget_ended(self, older_than_s: float) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM tasks WHERE ended_at < ?", (wall_time_s() - older_than_s,))

    def close(self) -> None:
        if self._path == MEMORY:
            return  # others of this process use it too; it goes with the process
        with self._guarded():
            self._db.close()


def _update(db: sqlite3.Connection, claim: Claim, changes: str, *values: Any) -> bool:
    found = db.execute(
        f"UPDATE tasks SET {changes} WHERE id = ? AND token = ? AND ended_at IS NULL",
        (*values, claim.id, claim.token),
    )
    return found.rowcount == 1


def _end(db: sqlite3.Connection, claim: Claim, status: str, result: str) -> bool:
    changes = "status = ?, token = '', ended_at = ?, result = ?"
    return _update(db, claim, changes, status, wall_time_s(), result)


@cache
def memory_queue() -> SqliteTaskQueue:
    """The one queue in the memory of this process: for tests, and for local testing mode."""
    return SqliteTaskQueue(MEMORY)


@cache
def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
