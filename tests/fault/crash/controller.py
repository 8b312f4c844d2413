"""The real controller, in a process that is killed round its durable writes; node starts the next one.

The process kills itself with SIGKILL from the thread that writes, so that nobody can have heard of what came of it. It
leaves a note of what the state must be then, and the next life compares that with what it finds, every row and blob,
before it does anything else. A write is known by the step of the scenario and by what it says: each is struck once, at
the points in turn (or, when asked for, told apart more finely and once at each), whoever makes it again is spared, and
so the scenario gets on.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tests.processes import command_of, still_alive

from eagleray.base.process import Child
from eagleray.controller import __main__ as controller
from eagleray.controller import boot, publisher
from eagleray.controller.boot import run_controller
from eagleray.controller.storage import Rows, Storage
from eagleray.engine.linux import children_of
from eagleray.engine.local import LocalEngine
from eagleray.reconcile.world import DEPLOYMENTS, INSTANCES
from eagleray.store.base import Transaction
from eagleray.store.sqlite import SqliteStore

HOME, EVERY_POINT = "CRASH_HOME", "CRASH_EVERY_POINT"
"""Environment variables: the directory of notes, and whether each write is struck at all points."""

BEFORE, AMID, TORN, AFTER = POINTS = ("before", "amid", "torn", "after")
"""Of the transaction: not begun, written and not committed, with half a page of its commit in the log, committed."""

_TORN_BYTES, _LONG_LOG_BYTES = 1000, 1 << 20

_PASSING = ("builder-", "policy-", "environment-")
"""Children that have no row: the next controller ends them."""


class Notes:
    """What one life leaves to the next and to the test, in files of `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        found = home / "fate.json"
        self._struck: dict[str, int] = json.loads(found.read_text()) if found.exists() else {}
        self._has_every = EVERY_POINT in os.environ

    def step(self) -> str:
        """Of the scenario; empty: nothing is struck."""
        return (self.home / "step").read_text()

    def strike(self, parts: list[str]) -> str:
        """The point at which the write that is about to happen is struck, if it is; `parts` are what it says."""
        step = self.step()
        if not step:
            return ""
        kind = " ".join(sorted(parts if self._has_every else {part.rpartition(" ")[2] for part in parts}))
        if not self._has_every and ("RECOVERING" in kind or "meta:" in kind):
            # Every life begins with these: struck in each step they would be most of all deaths.
            step = f"about {int(step) // 3 * 3}"
        write = f"{step}: {kind}"
        times = self._struck.get(write, 0)
        if times >= (len(POINTS) if self._has_every else 1):
            return ""
        point = POINTS[times if self._has_every else len(self._struck) % len(POINTS)]
        self._struck[write] = times + 1
        (self.home / "fate.json").write_text(json.dumps(self._struck))
        self.tell("strikes", {"write": write, "point": point})
        return point

    def tell(self, name: str, what: Any) -> None:
        with open(self.home / name, "a") as file:
            file.write(json.dumps(what) + "\n")

    def expect(self, state: list[Any]) -> None:
        (self.home / "expected").write_text(json.dumps(state))

    def check(self, found: list[Any]) -> None:
        """Old or new, whichever it must be; never a third."""
        note = self.home / "expected"
        if note.exists():
            expected = json.loads(note.read_text())
            if found != expected:
                self.tell("violations", {"expected": expected, "found": found})
            note.unlink()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class MortalStore(SqliteStore):
    """Dies before a commit, or in it, when `dies` says so."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.dies = ""
        self._log = f"{directory}/state.db-wal"
        self.notes = Notes(Path(os.environ[HOME]))
        self.notes.check(self.everything())

    def everything(self) -> list[Any]:
        """All that is stored, as JSON types."""
        rows = self._db.execute("SELECT tab, key, value FROM rows ORDER BY tab, key").fetchall()
        blobs = self._db.execute("SELECT digest FROM blobs ORDER BY digest").fetchall()
        return [[[tab, key, value.decode()] for tab, key, value in rows], [digest for (digest,) in blobs]]

    def begin_log(self) -> None:
        """SQLite writes a log that has become long from its start again, where no limit would stop it."""
        if os.stat(self._log).st_size > _LONG_LOG_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as transaction:
            yield transaction
            if self.dies == AMID:
                die()
            if self.dies == TORN:
                # The kernel cuts the write of the first page short, and kills who goes on with it (SIGXFSZ).
                limit = os.stat(self._log).st_size + _TORN_BYTES
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


class MortalStorage(Storage):
    """Knows what a transaction will do before it is begun."""

    _store: MortalStore

    def _commit(self, rows: Rows, blobs: Mapping[str, bytes], keep: set[str] | None) -> None:
        store = self._store
        point = store.notes.strike(_parts(rows, blobs, keep))
        if point:
            old = store.everything()
            new = _after(old, rows, blobs, keep)
            store.notes.expect(new if point == AFTER else old)
        if point == BEFORE:
            die()
        if point == TORN:
            store.begin_log()
        store.dies = point
        super()._commit(rows, blobs, keep)
        if point == TORN:  # the log has begun anew, far below the limit
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            store.notes.tell("not_torn", {})
            store.notes.expect(new)
        if point:
            die()


def _parts(rows: Rows, blobs: Mapping[str, bytes], keep: set[str] | None) -> list[str]:
    """What a write says, without what differs between two attempts at the same; behind a blank what matters most."""
    parts = ["blobs"] if blobs else []
    parts += ["keep"] if keep is not None else []
    for (table, key), value in rows.items():
        change = "-" if value is None else "+"
        if table == INSTANCES and value is not None:
            row = json.loads(value)
            parts.append(f"{row['owner']} {row.get('state', 'STARTING')}")
        elif table in (INSTANCES, DEPLOYMENTS):
            parts.append(f"{'' if table == INSTANCES else key} {change}{table}")
        else:
            parts.append(f"{change}{table}:{key}")
    return parts


def _after(old: list[Any], rows: Rows, blobs: Mapping[str, bytes], keep: set[str] | None) -> list[Any]:
    """The state that the transaction makes of `old`."""
    stored = {(table, key): value for table, key, value in old[0]}
    for at, value in rows.items():
        if value is None:
            stored.pop(at, None)
        else:
            stored[at] = value.decode()
    kept = {*old[1], *blobs}
    return [
        [[table, key, value] for (table, key), value in sorted(stored.items())],
        sorted(kept if keep is None else kept & keep),
    ]


async def _run(config: Any, engine: LocalEngine, store: MortalStore, listener: Any) -> bool:
    """Before the new life begins: whatever lives under node is known to it, and has a row or is passing."""
    known = {child.pid: child.ref for child in await engine.children()}
    node = os.getppid()
    ours = still_alive(children_of(node)) - {os.getpid()}
    owned = {key for table, key, _ in store.everything()[0] if table == INSTANCES}
    for pid in ours:
        ref = known.get(pid, "")
        if ref not in owned and not ref.startswith(_PASSING):
            store.notes.tell("violations", {"without an owner": [pid, ref, command_of(pid)]})
    store.notes.tell("lives", {"pid": os.getpid(), "children": len(ours)})
    return await run_controller(config, engine, store, listener)


def main(child: Child) -> None:
    """Entry, in the place of `eagleray.controller.__main__`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    boot.Storage = MortalStorage  # type: ignore[misc]
    controller.SqliteStore = MortalStore  # type: ignore[misc]
    controller.run_controller = _run  # type: ignore[assignment]
    # Nobody is asked for anything while routers come back, and a scenario of hundreds of lives has no second for each.
    publisher.SETTLE_S = 0.0
    controller.main(child)
