"""What being busy does to a target: no calls while it lasts, and whatever limit it had afterwards."""

from __future__ import annotations

from typing import Any

from eagleray.routing.table import ReplicaEntry
from eagleray.routing.target import Target


def target() -> Target:
    pool: Any = None
    return Target(pool, ReplicaEntry("r", "unix:/r", max_ongoing=5))


def test_a_busy_target_has_no_room_and_gets_its_limit_back() -> None:
    one = target()
    one.set_busy(True)
    assert one.max_ongoing == 0 and not one.takes_calls
    one.limit()
    assert one.max_ongoing == 0, "a new table does not end it"
    one.set_busy(False)
    assert one.max_ongoing == 5


def test_an_ejected_target_stays_ejected_when_it_answers_again() -> None:
    one = target()
    one.cap = 1
    one.set_busy(True)
    one.set_busy(False)
    assert one.max_ongoing == 1
