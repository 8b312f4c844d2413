"""What SQLite and the instance's key add: durability settings, file modes, damage that is noticed."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from eagleray.store.base import BlobDamagedError, StoreError
from eagleray.store.sqlite import SqliteStore


def test_every_commit_is_synced_to_a_write_ahead_log(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path))
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
    store.close()


def test_files_belong_to_the_user_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        store = SqliteStore(str(tmp_path))
        with store.transaction() as transaction:
            transaction.put("t", "k", b"v")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(previous)
    assert set(modes) >= {"state.db", "instance.key"}
    assert set(modes.values()) == {0o600}, modes


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    SqliteStore(str(tmp_path)).close()
    (tmp_path / "instance.key").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        SqliteStore(str(tmp_path))


@pytest.mark.parametrize("change", ["data", "mac"])
def test_changed_blob_is_never_returned(tmp_path: Path, change: str) -> None:
    store = SqliteStore(str(tmp_path))
    with store.transaction() as transaction:
        digest = transaction.put_blob(b"code")
    store.close()
    outside = sqlite3.connect(tmp_path / "state.db")
    with outside:
        outside.execute(f"UPDATE blobs SET {change} = ?", (b"evil",))
    outside.close()
    store = SqliteStore(str(tmp_path))
    with pytest.raises(BlobDamagedError, match="deploy the application again"):
        store.blob(digest)
    with store.transaction() as transaction:
        transaction.put_blob(b"code")
    assert store.blob(digest) == b"code", "deploying again mends it"
    store.close()


def test_blob_signed_by_another_instance_is_refused(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    store = SqliteStore(str(theirs))
    with store.transaction() as transaction:
        digest = transaction.put_blob(b"code")
    store.close()
    SqliteStore(str(ours)).close()
    (theirs / "state.db").replace(ours / "state.db")
    moved = SqliteStore(str(ours))
    with pytest.raises(BlobDamagedError):
        moved.blob(digest)
    moved.close()


def test_schema_of_another_version_is_refused(tmp_path: Path) -> None:
    SqliteStore(str(tmp_path)).close()
    outside = sqlite3.connect(tmp_path / "state.db")
    outside.execute("PRAGMA user_version = 99")
    outside.close()
    with pytest.raises(StoreError, match="schema 99"):
        SqliteStore(str(tmp_path))


def test_state_without_its_key_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteStore(str(tmp_path)).close()
    key = (tmp_path / "instance.key").read_bytes()
    (tmp_path / "instance.key").unlink()
    before = (tmp_path / "state.db").read_bytes()
    with pytest.raises(
        StoreError, match=r"instance\.key' is gone.*state\.db.*restore.*or move the state away"
    ):
        SqliteStore(str(tmp_path))
    assert not (tmp_path / "instance.key").exists()
    assert (tmp_path / "state.db").read_bytes() == before
    (tmp_path / "instance.key").touch(0o600)
    (tmp_path / "instance.key").write_bytes(key)
    SqliteStore(str(tmp_path)).close()


def test_a_start_that_was_cut_short_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch(0o600)
    SqliteStore(str(tmp_path)).close()


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    SqliteStore(str(tmp_path)).close()
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as a header" * 10)
    with pytest.raises(StoreError, match=r"state\.db"):
        SqliteStore(str(tmp_path))


def test_full_disk_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path))
    store._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="full"), store.transaction() as transaction:
        transaction.put("t", "small", b"1")
        transaction.put_blob(b"x" * 1_000_000)
    with store.transaction() as transaction:
        assert transaction.get("t", "small") is None
        transaction.put("t", "small", b"1")
    store.close()
