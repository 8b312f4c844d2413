"""`serve.batch` as a plain asyncio decorator: what bodies get, what callers get, whom a failure reaches."""

from __future__ import annotations

import asyncio
import contextvars
import math
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import cloudpickle
import pytest

from eagleray import serve
from eagleray.base.errors import EaglerayError
from eagleray.serve.batching import batcher_of
from eagleray.serve.context import (
    RequestContext,
    _get_serve_batch_request_context,
    _serve_request_context,
    current_request,
)

NEVER = math.inf
"""Batches that only start when they are full: no test waits for a clock."""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


async def gather(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ---- what bodies get ---------------------------------------------------------------------------------------------


def test_a_full_batch_starts_and_each_caller_gets_its_result() -> None:
    seen = []

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=NEVER)
    async def double(numbers: list[int]) -> list[int]:
        seen.append(numbers)
        return [2 * number for number in numbers]

    async def main() -> None:
        assert await gather(*(double(number) for number in range(6))) == [0, 2, 4, 6, 8, 10]

    run(main)
    assert seen == [[0, 1, 2], [3, 4, 5]]


def test_without_a_wait_all_that_come_in_one_turn_share_a_batch() -> None:
    @serve.batch(batch_wait_timeout_s=0)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    async def main() -> None:
        assert await gather(*(size(number) for number in range(12))) == [10] * 10 + [2] * 2

    run(main)


def test_the_wait_counts_from_the_first_item() -> None:
    @serve.batch(batch_wait_timeout_s=0.001)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    async def main() -> None:
        assert await gather(size(1), size(2)) == [2, 2]

    run(main)


def test_a_bare_decorator_and_a_method_with_several_parameters() -> None:
    class Model:
        @serve.batch
        async def add(self, left: list[int], right: list[int], sign: list[int] | None = None) -> list[int]:
            assert isinstance(self, Model)
            return [a + b for a, b in zip(left, right, strict=True)] if sign is None else sign

    async def main() -> None:
        model = Model()
        assert await gather(model.add(1, 2), model.add(3, right=4), model.add(right=6, left=5)) == [3, 7, 11]
        assert await gather(model.add(1, 2), model.add(3, 4, sign=-1), model.add(0, 0, -2)) == [3, -1, -2]

    run(main)
    assert Model.add.__name__ == "add"
    assert asyncio.iscoroutinefunction(Model.add)


def test_keyword_only_parameters_are_batched_too() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def join(words: list[str], *, end: list[str]) -> list[str]:
        return [word + stop for word, stop in zip(words, end, strict=True)]

    async def main() -> None:
        assert await gather(join("a", end="!"), join("b", end="?")) == ["a!", "b?"]

    run(main)


def test_a_call_without_an_item_is_a_type_error() -> None:
    @serve.batch
    async def size(items: list[int]) -> list[int]:
        return items

    async def main() -> None:
        with pytest.raises(TypeError, match="at least one argument"):
            await size()

    run(main)


def test_instances_share_settings_and_concurrency_but_no_batch() -> None:
    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
        async def ask(self, items: list[int]) -> list[str]:
            return [f"{self.name}{item}" for item in items]

    async def main() -> None:
        a, b = Model("a"), Model("b")
        assert await gather(a.ask(1), b.ask(2), a.ask(3), b.ask(4)) == ["a1", "b2", "a3", "b4"]
        a.ask.set_max_batch_size(1)
        assert b.ask._get_max_batch_size() == 1

    run(main)


def test_a_function_bound_in_the_constructor_takes_no_owner() -> None:
    class Model:
        def __init__(self) -> None:
            self.ask = serve.batch(self._ask, max_batch_size=2, batch_wait_timeout_s=NEVER)

        async def _ask(self, items: list[int]) -> list[int]:
            return items

    async def main() -> None:
        model = Model()
        assert await gather(model.ask(1), model.ask(2)) == [1, 2]

    run(main)


def test_at_most_so_many_batches_run_at_once() -> None:
    gates: list[asyncio.Event] = []

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=2)
    async def wait(items: list[int]) -> list[int]:
        gates.append(gate := asyncio.Event())
        await gate.wait()
        return items

    async def main() -> None:
        calls = [asyncio.ensure_future(wait(number)) for number in range(3)]
        await turns()
        assert len(gates) == 2
        assert wait._get_curr_iteration_start_times().num_requests == 2
        assert "gate.wait" in await wait._get_handling_task_stack()
        gates[0].set()
        await turns()
        assert len(gates) == 3
        for gate in gates:
            gate.set()
        assert await gather(*calls) == [0, 1, 2]
        await turns()
        times = wait._get_curr_iteration_start_times()
        assert (times.min_start_time, times.mean_start_time, times.max_start_time) == (None, None, None)

    run(main)


def test_two_loops_in_two_threads_have_a_queue_each() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[str]:
        return [f"{item} on {threading.current_thread().name}" for item in items]

    results: dict[str, list[Any]] = {}

    async def main() -> None:
        results[threading.current_thread().name] = await gather(ask(1), ask(2))

    threads = [threading.Thread(target=lambda: asyncio.run(main()), name=name) for name in ("A", "B")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"A": ["1 on A", "2 on A"], "B": ["1 on B", "2 on B"]}


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([1], "returned 1 results; expected a list of 2 results"),
        ([1, 2, 3], "returned 3 results; expected a list of 2 results"),
        (None, "returned NoneType; expected a list of 2 results"),
        ("ab", "returned str; expected a list of 2 results"),
        ({1: 2, 3: 4}, "returned dict; expected a list of 2 results"),
    ],
    ids=["short", "long", "none", "text", "dict"],
)
def test_a_wrong_number_of_results_is_told_to_all_callers(results: Any, said: str) -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> Any:
        return results

    async def main() -> None:
        errors = await gather(ask(1), ask(2))
        assert all(type(error) is EaglerayError and said in str(error) for error in errors)
        assert ".ask'" in str(errors[0])

    run(main)


def test_results_may_be_any_sized_sequence() -> None:
    import numpy as np

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> Any:
        return np.asarray(items) * 2

    async def main() -> None:
        assert await gather(ask(1), ask(2)) == [2, 4]

    run(main)


def test_what_the_body_raises_reaches_every_caller_and_the_next_batch_works() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        if 1 in items:
            raise KeyError("one")
        return items

    async def main() -> None:
        assert [repr(error) for error in await gather(ask(1), ask(2))] == ["KeyError('one')"] * 2
        assert await gather(ask(3), ask(4)) == [3, 4]

    run(main)


def test_an_exception_among_the_results_reaches_only_its_caller() -> None:
    @serve.batch(max_batch_size=3, batch_wait_timeout_s=NEVER)
    async def root(items: list[float]) -> list[Any]:
        return [item**0.5 if item >= 0 else ValueError(f"{item} is negative") for item in items]

    async def main() -> None:
        one, two, three = await gather(root(4), root(-1), root(9))
        assert (one, three) == (2, 3)
        assert isinstance(two, ValueError)

    run(main)


def test_a_stop_iteration_among_the_results_is_an_error_that_futures_can_carry() -> None:
    @serve.batch(max_batch_size=1)
    async def ask(items: list[int]) -> list[Any]:
        return [StopIteration(3)]

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await ask(1)

    run(main)


def test_isolation_finds_the_guilty_items_by_halves() -> None:
    bodies = []

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=NEVER, isolate_errors=True)
    async def ask(items: list[int]) -> list[int]:
        bodies.append(items)
        if 5 in items:
            raise ValueError("five")
        return items

    async def main() -> None:
        results = await gather(*(ask(number) for number in range(8)))
        assert [result for result in results if not isinstance(result, ValueError)] == [0, 1, 2, 3, 4, 6, 7]
        assert isinstance(results[5], ValueError)

    run(main)
    assert bodies == [[*range(8)], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]


def test_isolation_does_not_repeat_a_wrong_length() -> None:
    bodies = []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER, isolate_errors=True)
    async def ask(items: list[int]) -> list[int]:
        bodies.append(items)
        return []

    async def main() -> None:
        assert [type(error) for error in await gather(ask(1), ask(2))] == [EaglerayError] * 2

    run(main)
    assert len(bodies) == 1


def test_a_body_that_is_cancelled_by_its_own_doing_cancels_its_callers_only() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        if 1 in items:
            raise asyncio.CancelledError
        return items

    async def main() -> None:
        assert [type(error) for error in await gather(ask(1), ask(2))] == [asyncio.CancelledError] * 2
        assert await gather(ask(3), ask(4)) == [3, 4]

    run(main)


# ---- cancellation ------------------------------------------------------------------------------------------------


def test_items_whose_callers_left_are_dropped_before_the_batch_forms() -> None:
    seen = []

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        seen.append(items)
        return items

    async def main() -> None:
        calls = [asyncio.ensure_future(ask(number)) for number in range(2)]
        await turns(1)
        calls[0].cancel()
        await turns(2)
        later = [asyncio.ensure_future(ask(number)) for number in (2, 3)]
        assert await gather(*calls[1:], *later) == [1, 2, 3]

    run(main)
    assert seen == [[1, 2, 3]]


def test_a_caller_that_leaves_in_the_turn_in_which_its_batch_forms_is_dropped_too() -> None:
    seen = []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        seen.append(items)
        return items

    async def main() -> None:
        first = asyncio.ensure_future(ask(1))
        await turns(1)
        second = asyncio.ensure_future(ask(2))
        first.cancel()  # its future is cancelled now, its own code hears of it a turn later, after `second` has begun
        third = asyncio.ensure_future(ask(3))
        assert await gather(second, third) == [2, 3]

    run(main)
    assert seen == [[2, 3]]


def test_cancelling_callers_never_cancels_a_running_batch() -> None:
    gate, ends = asyncio.Event(), []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        await gate.wait()
        ends.append(items)
        return items

    async def main() -> None:
        one, two = (asyncio.ensure_future(ask(number)) for number in (1, 2))
        await turns()
        one.cancel()
        await turns()
        gate.set()
        assert await two == 2
        gate.clear()
        alone = [asyncio.ensure_future(ask(number)) for number in (3, 4)]
        await turns()
        for call in alone:
            call.cancel()
        await turns()
        gate.set()
        await turns()

    run(main)
    assert ends == [[1, 2], [3, 4]]


def test_many_that_leave_while_a_batch_runs_are_not_kept() -> None:
    gate = asyncio.Event()

    @serve.batch(max_batch_size=1)
    async def ask(items: list[int]) -> list[int]:
        await gate.wait()
        return items

    async def main() -> None:
        first = asyncio.ensure_future(ask(0))
        await turns()
        calls = [asyncio.ensure_future(ask(number)) for number in range(1000)]
        await turns()
        for call in calls[:990]:
            call.cancel()
        await turns()
        batcher = batcher_of(ask)
        assert batcher is not None and batcher._queue is not None
        assert batcher._queue.former.waiting < 200
        gate.set()
        assert await gather(first, *calls[990:]) == [0, *range(990, 1000)]

    run(main)


# ---- sizes -------------------------------------------------------------------------------------------------------


def test_a_size_function_decides_what_fits_and_keeps_the_order() -> None:
    seen = []

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=sum)
    async def ask(items: list[int]) -> list[int]:
        seen.append(items)
        return items

    async def main() -> None:
        assert await gather(*(ask(size) for size in (4, 5, 6, 1, 3))) == [4, 5, 6, 1, 3]

    run(main)
    assert seen == [[4, 5], [6, 1, 3]]


def test_an_item_larger_than_a_batch_fails_alone() -> None:
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=sum)
    async def ask(items: list[int]) -> list[int]:
        return items

    async def main() -> None:
        small, large, other = await gather(ask(4), ask(11), ask(5))
        assert (small, other) == (4, 5)
        assert isinstance(large, RuntimeError) and "size of this item is 11" in str(large)

    run(main)


def test_a_broken_size_function_fails_one_call_and_nothing_else() -> None:
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=lambda words: sum(map(len, words)))
    async def ask(items: list[Any]) -> list[Any]:
        return items

    async def main() -> None:
        assert await ask("one") == "one"
        one, broken, two = await gather(ask("one"), ask(5), ask("two"))
        assert (one, two) == ("one", "two")
        assert isinstance(broken, TypeError)
        assert await ask("three") == "three"

    run(main)


def test_a_size_function_that_returns_no_number_fails_its_call() -> None:
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=lambda items: None)
    async def ask(items: list[int]) -> list[int]:
        return items

    async def main() -> None:
        with pytest.raises(TypeError):
            await ask(1)

    run(main)


class Panic(BaseException):
    """As what a panic of an extension written in Rust raises."""


def test_a_size_function_that_panics_fails_one_call_and_nothing_else() -> None:
    def count(items: list[str]) -> int:
        if "bad" in items:
            raise Panic
        return len(items)

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0, batch_size_fn=count)
    async def ask(items: list[str]) -> list[str]:
        return items

    async def main() -> None:
        one, broken, two = await gather(ask("one"), ask("bad"), ask("two"))
        assert (one, two) == ("one", "two")
        assert isinstance(broken, Panic)
        assert await ask("three") == "three"

    run(main)


def test_a_result_that_panics_reaches_all_its_callers() -> None:
    class Results(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise Panic

        def __len__(self) -> int:
            raise Panic

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        return Results(items) if 0 in items else items

    async def main() -> None:
        assert [type(error) for error in await gather(ask(0), ask(1))] == [Panic, Panic]
        assert await gather(ask(2), ask(3)) == [2, 3]

    run(main)


# ---- settings ----------------------------------------------------------------------------------------------------


def test_a_smaller_size_lets_a_waiting_batch_start() -> None:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=NEVER)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    async def main() -> None:
        calls = [asyncio.ensure_future(size(number)) for number in range(3)]
        await turns()
        size.set_max_batch_size(2.0)
        size.set_batch_wait_timeout_s(0)
        assert await gather(*calls) == [2, 2, 1]
        assert size._get_max_batch_size() == 2
        assert size._get_batch_wait_timeout_s() == 0

    run(main)


def test_setters_may_be_called_from_another_thread() -> None:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=NEVER)
    async def size(items: list[int]) -> list[int]:
        return [len(items)]

    async def main() -> None:
        call = asyncio.ensure_future(size(1))
        await turns()
        await asyncio.to_thread(size.set_max_batch_size, 1)
        assert await call == 1

    run(main)


def test_is_alive_once_it_was_called() -> None:
    @serve.batch(max_batch_size=1)
    async def ask(items: list[int]) -> list[int]:
        return items

    async def main() -> None:
        assert not await ask._is_batching_task_alive()
        assert await ask._get_handling_task_stack() is None
        await ask(1)
        assert await ask._is_batching_task_alive()

    run(main)


def test_a_batched_function_travels_by_value_without_its_queues() -> None:
    offset = 3

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def ask(items: list[int]) -> list[int]:
        return [item + offset for item in items]

    async def both(function: Any) -> None:
        assert await gather(function(1), function(2)) == [4, 5]

    async def main() -> None:
        await both(ask)
        copy = pickle.loads(cloudpickle.dumps(ask))
        await both(copy)
        copy.set_max_batch_size(5)
        assert (copy._get_max_batch_size(), ask._get_max_batch_size()) == (5, 2)

    run(main)


# ---- contexts ----------------------------------------------------------------------------------------------------


def test_models_never_share_a_batch_and_the_body_knows_its_model_and_requests() -> None:
    seen = []

    @serve.batch(batch_wait_timeout_s=0)
    async def ask(items: list[int]) -> list[int]:
        request = current_request()
        ids = [one.request_id for one in _get_serve_batch_request_context()]
        seen.append((request.request_id, request.multiplexed_model_id, request.deadline, ids, items))
        assert request.children is None
        return items

    async def call(number: int, model: str, deadline: float) -> int:
        _serve_request_context.set(
            RequestContext(f"r{number}", multiplexed_model_id=model, deadline=deadline, children=set())
        )
        return int(await ask(number))

    async def main() -> None:
        calls = [call(1, "a", 5.0), call(2, "b", 0.0), call(3, "a", 7.0), call(4, "b", 7.0)]
        assert await gather(*calls) == [1, 2, 3, 4]
        assert _get_serve_batch_request_context() == []

    run(main)
    assert seen == [("r1", "a", 7.0, ["r1", "r3"], [1, 3]), ("r2", "b", 0.0, ["r2", "r4"], [2, 4])]


def test_a_body_sees_no_callers_context_variables() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @serve.batch(batch_wait_timeout_s=0)
    async def ask(items: list[int]) -> list[str]:
        return [user.get()] * len(items)

    async def main() -> None:
        user.set("first caller")
        assert await ask(1) == "nobody"

    run(main)


# ---- streams -----------------------------------------------------------------------------------------------------


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def test_each_caller_iterates_over_its_slice() -> None:
    @serve.batch(max_batch_size=3, batch_wait_timeout_s=NEVER)
    async def count(lengths: list[int]) -> AsyncIterator[list[Any]]:
        for step in range(max(lengths) + 1):
            yield [step if step < length else StopIteration for length in lengths]

    async def main() -> None:
        assert await gather(*(collect(count(n)) for n in (1, 3, 2))) == [[0], [0, 1, 2], [0, 1]]

    run(main)


def test_calls_of_a_generator_are_batched_before_they_are_iterated() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def size(items: list[int]) -> AsyncIterator[list[int]]:
        yield [len(items)] * len(items)

    async def main() -> None:
        first, second = size(1), size(2)
        assert await collect(first) == await collect(second) == [2]

    run(main)


def test_a_row_of_the_wrong_length_ends_all_streams_with_what_was_expected() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def rows(items: list[int]) -> AsyncIterator[list[int]]:
        yield items
        yield items[:1]

    async def read(number: int) -> list[Any]:
        values = []
        try:
            async for value in rows(number):
                values.append(value)
        except EaglerayError as error:
            values.append(str(error))
        return values

    async def main() -> None:
        for number, values in enumerate(await gather(read(0), read(1))):
            assert values[0] == number
            assert "yielded 1 results; expected a list of 2 results" in values[1]

    run(main)


def test_a_generator_that_raises_midway_fails_its_callers_after_what_they_had() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER, isolate_errors=True)
    async def rows(items: list[int]) -> AsyncIterator[list[Any]]:
        yield [items[0], ValueError("not for you")]
        raise KeyError("midway")

    async def read(number: int) -> list[Any]:
        values = []
        try:
            async for value in rows(number):
                values.append(value)
        except (KeyError, ValueError) as error:
            values.append(repr(error))
        return values

    async def main() -> None:
        assert await gather(read(1), read(2)) == [[1, "KeyError('midway')"], ["ValueError('not for you')"]]

    run(main)


def test_a_generator_that_raises_before_its_first_row_is_isolated() -> None:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=NEVER, isolate_errors=True)
    async def rows(items: list[int]) -> AsyncIterator[list[int]]:
        if 2 in items:
            raise ValueError("two")
        yield items
        yield items

    async def main() -> None:
        one, two, *others = await gather(*(collect(rows(number)) for number in (1, 2, 3, 4)))
        assert isinstance(two, ValueError)
        assert [one, *others] == [[1, 1], [3, 3], [4, 4]]

    run(main)


def test_a_reader_that_leaves_does_not_stop_the_others_and_the_last_one_stops_the_body() -> None:
    ends = []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=NEVER)
    async def endless(items: list[int]) -> AsyncIterator[list[int]]:
        try:
            step = 0
            while True:
                yield [step] * len(items)
                step += 1
                await asyncio.sleep(0)
        finally:
            ends.append(items)

    async def read(number: int, count: int) -> int:
        stream, last = endless(number), 0
        for _ in range(count):
            last = await anext(stream)
        await stream.aclose()
        return last

    async def main() -> None:
        assert await gather(read(1, 3), read(2, 50)) == [2, 49]
        await turns()
        assert ends == [[1, 2]]

    run(main)


# ---- validation --------------------------------------------------------------------------------------------------


async def body(items: list[int]) -> list[int]:
    return items


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_batch_size": 2.5}, TypeError),
        ({"max_batch_size": "2"}, TypeError),
        ({"max_batch_size": 0}, ValueError),
        ({"max_batch_size": -1.0}, ValueError),
        ({"batch_wait_timeout_s": "1"}, TypeError),
        ({"batch_wait_timeout_s": -0.1}, ValueError),
        ({"batch_wait_timeout_s": math.nan}, ValueError),
        ({"max_concurrent_batches": 0}, TypeError),
        ({"max_concurrent_batches": 1.5}, TypeError),
        ({"batch_size_fn": 5}, TypeError),
        ({"isolate_errors": 1}, TypeError),
        ({"latency_target_s": "1"}, TypeError),
        ({"latency_target_s": 0}, ValueError),
        ({"latency_target_s": math.inf}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
    ids=str,
)
def test_unfit_settings_are_refused(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve.batch(**settings)


def test_integral_floats_are_sizes() -> None:
    assert serve.batch(max_batch_size=8.0)(body)._get_max_batch_size() == 8


def test_setters_check_as_the_decorator_does() -> None:
    batched = serve.batch(body)
    with pytest.raises(ValueError):
        batched.set_max_batch_size(0)
    with pytest.raises(TypeError):
        batched.set_batch_wait_timeout_s("soon")
    assert (batched._get_max_batch_size(), batched._get_batch_wait_timeout_s()) == (10, 0.01)


def test_only_async_functions_can_be_batched() -> None:
    def plain(items: list[int]) -> list[int]:
        return items

    async def stream(items: list[int]) -> AsyncIterator[list[int]]:
        yield items

    for target in (5, plain, stream):
        with pytest.raises(TypeError):
            serve.batch(target)
    with pytest.raises(TypeError, match="must be 'async def'"):
        serve.batch()(plain)
    with pytest.raises(TypeError, match="latency_target_s"):
        serve.batch(latency_target_s=0.1)(stream)
