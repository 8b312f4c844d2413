"""The limit of a replica with batched methods: whose word counts, who is told, who is warned."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from eagleray import serve
from eagleray.replica.capacity import Capacity
from eagleray.replica.slots import Slots
from eagleray.serve.batching import batcher_of


class Model:
    @serve.batch(max_batch_size=8, max_concurrent_batches=2)
    async def ask(self, items: list[int]) -> list[int]:
        return items

    @serve.batch(max_batch_size=4)
    async def other(self, items: list[int]) -> list[int]:
        return items


class Narrow(Model):
    async def other(self, items: list[int]) -> list[int]:  # no longer batched
        return items


@pytest.fixture
def told() -> list[int]:
    return []


def capacity(told: list[int], limit: int = 5, is_given: bool = False) -> tuple[Capacity, Slots]:
    slots = Slots(limit)
    return Capacity("D", slots, is_given, told.append), slots


def test_a_default_limit_grows_to_what_batches_hold_and_one_that_gathers(told: list[int]) -> None:
    one, slots = capacity(told)
    one.find(Model())
    assert slots.limit == (8 * 2 + 8) + (4 + 4)
    assert told == [slots.limit]


def test_without_batches_nothing_happens(told: list[int]) -> None:
    one, slots = capacity(told)
    one.find(object())
    one.configure(7, None)
    assert (slots.limit, told) == (7, [])


def test_methods_that_are_overridden_do_not_count(told: list[int]) -> None:
    one, slots = capacity(told)
    one.find(Narrow())
    assert slots.limit == 24


def test_functions_and_instance_attributes_count(told: list[int]) -> None:
    @serve.batch(max_batch_size=16)
    async def function(items: list[int]) -> list[int]:
        return items

    one, slots = capacity(told)
    one.find(function)
    assert slots.limit == 32

    class Late:
        def __init__(self) -> None:
            self.ask = function

    other, slots = capacity(told)
    other.find(Late())
    assert slots.limit == 32


def test_a_limit_that_was_given_is_kept_and_warned_of_once(told: list[int], caplog: Any) -> None:
    one, slots = capacity(told, limit=10, is_given=True)
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        one.find(Model())
        one.find(Model())
    assert (slots.limit, told) == (10, [])
    (record,) = caplog.records
    assert "max_ongoing_requests=10" in record.message
    assert "Model.ask" in record.message
    assert "at least 20" in record.message


def test_a_limit_that_is_high_enough_is_neither_changed_nor_warned_of(told: list[int], caplog: Any) -> None:
    one, slots = capacity(told, limit=1000)
    one.find(Model())
    assert (slots.limit, told, caplog.records) == (1000, [], [])


def test_setters_and_late_batchers_change_it(told: list[int]) -> None:
    @serve.batch(max_batch_size=2)
    async def function(items: list[int]) -> list[int]:
        return items

    batcher = batcher_of(function)
    assert batcher is not None
    one, slots = capacity(told, limit=3)
    one.declare(batcher)
    assert slots.limit == 4
    function.set_max_batch_size(50)
    one.declare(batcher)
    assert slots.limit == 100
    function.set_max_batch_size(1)
    one.declare(batcher)
    assert slots.limit == 3
    assert told == [4, 100, 3]  # who was told once is told of the way back, too


def test_a_reconfigured_limit_is_told_only_where_the_table_is_not_enough(told: list[int]) -> None:
    one, slots = capacity(told)
    one.find(Model())
    one.configure(40, True)
    assert slots.limit == 40
    one.configure(None, False)
    assert slots.limit == 40
    one.configure(5, None)
    assert slots.limit == 32
    assert told == [32, 40, 40, 32]
