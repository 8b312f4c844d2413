"""What every StateStore must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eagleray.store.base import StateStore
from eagleray.store.sqlite import SqliteStore

Open = Callable[[], StateStore]


@pytest.fixture(params=["sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store anew, as after a crash: nothing is closed before."""
    opened: list[StateStore] = []

    def open_store() -> StateStore:
        opened.append(SqliteStore(str(tmp_path)))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def test_what_was_committed_is_there_after_a_crash(reopen: Open) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.put("t", "b", b"2")
        transaction.put("t", "a", b"1")
        transaction.put("other", "a", b"3")
        assert transaction.get("t", "a") == b"1", "a transaction sees its own writes"
    with reopen().transaction() as transaction:
        assert list(transaction.scan("t")) == [("a", b"1"), ("b", b"2")]
        assert transaction.get("other", "a") == b"3"
        assert transaction.get("other", "b") is None


def test_transaction_that_raises_changes_nothing(reopen: Open) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.put("t", "a", b"1")
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.put("t", "a", b"2")
        transaction.put("t", "b", b"2")
        transaction.put_blob(b"code")
        raise ZeroDivisionError
    with store.transaction() as transaction:
        assert list(transaction.scan("t")) == [("a", b"1")]


def test_delete_forgets_and_may_be_repeated(reopen: Open) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.put("t", "a", b"1")
        transaction.delete("t", "a")
        transaction.delete("t", "a")
    with store.transaction() as transaction:
        assert list(transaction.scan("t")) == []


def test_blobs_are_addressed_by_content(reopen: Open) -> None:
    store = reopen()
    with store.transaction() as transaction:
        digest = transaction.put_blob(b"code")
        assert transaction.put_blob(b"code") == digest
        other = transaction.put_blob(b"")
    assert len(digest) == 64
    assert reopen().blob(digest) == b"code"
    assert reopen().blob(other) == b""
    with pytest.raises(KeyError):
        store.blob("0" * 64)


def test_blobs_that_nobody_needs_are_deleted(reopen: Open) -> None:
    store = reopen()
    with store.transaction() as transaction:
        kept, gone = transaction.put_blob(b"kept"), transaction.put_blob(b"gone")
        transaction.keep_blobs({kept})
    assert store.blob(kept) == b"kept"
    with pytest.raises(KeyError):
        store.blob(gone)
