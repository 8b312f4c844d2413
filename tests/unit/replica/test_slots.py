"""Slots: strict, remembered refusals, idleness."""

from __future__ import annotations

from eagleray.replica.slots import CountedSlots, Slots
from eagleray.wire.messages import DRAINING, REJECTED


class Caller:
    def __init__(self) -> None:
        self.rooms = 0

    def room(self) -> None:
        self.rooms += 1


def test_never_more_than_the_limit() -> None:
    slots, caller = Slots(2), Caller()
    slots.open()
    assert [slots.refusal(caller) for _ in range(2)] == [None, None]
    refusal = slots.refusal(caller)
    assert refusal is not None and (refusal.code, refusal.load) == (REJECTED, 2)
    assert slots.ongoing == 2


def test_a_refused_caller_is_told_once_when_a_slot_is_free() -> None:
    slots, first, second = Slots(1), Caller(), Caller()
    slots.open()
    slots.refusal(first)
    for _ in range(3):
        slots.refusal(second)
    assert slots.release() == 0
    assert (first.rooms, second.rooms) == (0, 1)
    assert slots.refusal(first) is None
    slots.release()
    assert second.rooms == 1


def test_closed_until_it_is_opened() -> None:
    slots, caller = Slots(1), Caller()
    refusal = slots.refusal(caller)
    assert refusal is not None and refusal.code == REJECTED
    slots.open()
    assert caller.rooms == 1 and slots.refusal(caller) is None


def test_drain_refuses_for_ever_and_says_so() -> None:
    slots, caller = Slots(1), Caller()
    slots.open()
    slots.refusal(caller)
    slots.refusal(caller)
    slots.drain()
    slots.release()
    refusal = slots.refusal(caller)
    assert refusal is not None and refusal.code == DRAINING
    assert caller.rooms == 0


def test_idle_is_reported_once() -> None:
    slots, caller = Slots(2), Caller()
    seen: list[str] = []
    slots.open()
    slots.when_idle(lambda: seen.append("at once"))
    slots.refusal(caller)
    slots.when_idle(lambda: seen.append("later"))
    assert seen == ["at once"]
    slots.release()
    slots.refusal(caller)
    slots.release()
    assert seen == ["at once", "later"]


def test_a_raised_limit_makes_room_and_a_lowered_one_does_not_go_negative() -> None:
    slots, caller = Slots(1), Caller()
    slots.open()
    slots.refusal(caller)
    slots.refusal(caller)
    slots.resize(2)
    assert caller.rooms == 1 and slots.refusal(caller) is None
    slots.resize(1)
    assert slots.refusal(caller) is not None
    assert slots.release() == 1
    assert caller.rooms == 1 and slots.refusal(caller) is not None
    assert slots.release() == 0 and caller.rooms == 2


def test_counted_slots_say_once_that_they_are_spent() -> None:
    told: list[str] = []
    slots = CountedSlots(2, 3, lambda: told.append("spent"))
    caller = Caller()
    slots.open()
    for taken in range(5):
        assert slots.refusal(caller) is None
        assert told == (["spent"] if taken >= 2 else [])
        slots.release()
    assert slots.refusal(caller) is None and slots.refusal(caller) is None
    refused = slots.refusal(caller)
    assert refused is not None and refused.code == REJECTED
