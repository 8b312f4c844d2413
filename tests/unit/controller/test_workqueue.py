"""The work queue: every key once, in order; one alarm per key."""

from __future__ import annotations

from eagleray.controller.workqueue import WorkQueue


def test_keys_come_once_in_the_order_in_which_they_became_dirty() -> None:
    queue = WorkQueue()
    queue.mark(["b", "a"])
    queue.mark(["b"])
    assert [queue.take(), queue.take(), queue.take()] == ["b", "a", None]


def test_alarm_makes_its_key_dirty_once() -> None:
    queue = WorkQueue()
    queue.schedule("a", 5.0)
    queue.promote(4.9)
    assert queue.take() is None
    queue.promote(5.0)
    assert queue.take() == "a"
    queue.promote(6.0)
    assert queue.take() is None
    assert queue.next_at() is None


def test_newer_alarm_replaces_the_older() -> None:
    queue = WorkQueue()
    queue.schedule("a", 5.0)
    queue.schedule("a", 9.0)
    queue.schedule("b", 7.0)
    assert queue.next_at() == 7.0
    queue.schedule("b", None)
    assert queue.next_at() == 9.0
    queue.promote(8.0)
    assert len(queue) == 0
    queue.schedule("a", 6.0)
    assert queue.next_at() == 6.0
