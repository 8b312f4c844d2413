"""Surface 1.8: `@serve.batch`; section 10 checks of batching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.compat.impl import Instance, differs, exceptions, serve
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until

LONG_S = 600.0
"""A wait that never ends by itself: such a batch starts because it is full."""


def results(responses: list[Any]) -> list[Any]:
    """Values, or the exceptions that came instead."""
    found = []
    for response in responses:
        try:
            found.append(response.result(timeout_s=20))
        except Exception as error:
            found.append(error)
    return found


# ---- the decorator -----------------------------------------------------------------------------------------------


async def body(items: list[int]) -> list[int]:
    return items


async def stream_body(items: list[int]) -> AsyncIterator[list[int]]:
    yield items


def sync_body(items: list[int]) -> list[int]:
    return items


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_batch_size": 1.5}, TypeError),
        ({"max_batch_size": "4"}, TypeError),
        ({"max_batch_size": 0}, ValueError),
        ({"batch_wait_timeout_s": "1"}, TypeError),
        ({"batch_wait_timeout_s": -1}, ValueError),
        ({"max_concurrent_batches": 1.5}, TypeError),
        ({"max_concurrent_batches": 0}, TypeError),
        ({"batch_size_fn": "len"}, TypeError),
    ],
    ids=str,
)
def test_unfit_settings_are_refused(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve.batch(**settings)(body)


def test_an_integral_float_is_a_size() -> None:
    assert serve.batch(max_batch_size=4.0)(body)._get_max_batch_size() == 4


def test_defaults() -> None:
    batched = serve.batch(body)
    assert batched._get_max_batch_size() == 10
    assert batched._get_batch_wait_timeout_s() == 0.01


def test_the_bare_form_takes_coroutine_functions_only() -> None:
    for target in (sync_body, stream_body, 5):
        with pytest.raises(TypeError):
            serve.batch(target)
    serve.batch()(stream_body)


def test_setters_check_their_values() -> None:
    batched = serve.batch(body)
    with pytest.raises(ValueError):
        batched.set_max_batch_size(0)
    with pytest.raises(ValueError):
        batched.set_batch_wait_timeout_s(-1)


# ---- batches -----------------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=100)
class Model:
    """Batches that start when they have four items, and whatever a test wants to know of them."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.running = 0
        self.most = 0

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=LONG_S)
    async def sizes(self, items: list[Any]) -> list[int]:
        return [len(items)] * len(items)

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.02)
    async def soon(self, items: list[Any]) -> list[int]:
        return [len(items)] * len(items)

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=LONG_S)
    async def pairs(self, left: list[int], right: list[int]) -> list[str]:
        return [f"{a}-{b} of {len(left)}" for a, b in zip(left, right, strict=True)]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=LONG_S)
    async def wrong_length(self, items: list[int]) -> list[int]:
        return items[:1]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=LONG_S)
    async def raises(self, items: list[int]) -> list[int]:
        raise KeyError("for all")

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=2)
    async def two_at_once(self, items: list[Gate]) -> list[int]:
        self.running += 1
        self.most = max(self.most, self.running)
        self.journal.write("in")
        await items[0].passed()
        self.running -= 1
        return [self.most]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
    async def gated(self, gates: list[Gate]) -> list[str]:
        self.journal.write("in")
        for gate in gates:
            await gate.passed()
        self.journal.write("out")
        return ["through"] * len(gates)

    async def tune(self, size: int, wait_s: float) -> tuple[int, float]:
        self.soon.set_max_batch_size(size)
        self.soon.set_batch_wait_timeout_s(wait_s)
        return self.soon._get_max_batch_size(), self.soon._get_batch_wait_timeout_s()

    async def inside(self) -> tuple[bool, int]:
        alive = await self.gated._is_batching_task_alive()
        return alive, self.gated._get_curr_iteration_start_times().num_requests

    async def __call__(self, request: Any) -> Any:
        return await self.sizes(request.query_params.get("item"))


@pytest.fixture
def handle(instance: Instance, journal: Journal) -> Any:
    return instance.run(Model.bind(journal)).handle


def test_a_batch_closes_when_it_is_full(handle: Any) -> None:
    assert results([handle.sizes.remote(n) for n in range(8)]) == [4] * 8


def test_a_batch_closes_when_its_time_is_over(handle: Any) -> None:
    assert handle.soon.remote(1).result(timeout_s=20) == 1


def test_every_parameter_is_a_list_named_ones_too(handle: Any) -> None:
    responses = [handle.pairs.remote(1, right=2), handle.pairs.remote(3, right=4)]
    assert results(responses) == ["1-2 of 2", "3-4 of 2"]


@differs("batch-named-and-positional")
def test_calls_that_name_their_arguments_share_batches_with_those_that_do_not(handle: Any) -> None:
    responses = [handle.pairs.remote(1, 2), handle.pairs.remote(right=4, left=3)]
    assert results(responses) == ["1-2 of 2", "3-4 of 2"]


def test_a_wrong_number_of_results_fails_all_callers(handle: Any) -> None:
    errors = results([handle.wrong_length.remote(n) for n in range(2)])
    assert all(isinstance(error, exceptions.RayServeException) for error in errors)


def test_what_the_body_raises_fails_all_callers(handle: Any) -> None:
    assert all(isinstance(error, KeyError) for error in results([handle.raises.remote(n) for n in range(2)]))


def test_so_many_batches_run_at_once(handle: Any, gate: Gate, journal: Journal) -> None:
    responses = [handle.two_at_once.remote(gate) for _ in range(4)]
    journal.wait_for("in", count=2)
    gate.open()
    assert max(results(responses)) == 2


def test_a_cancelled_caller_does_not_cancel_the_batch(handle: Any, gate: Gate, journal: Journal) -> None:
    one, two = handle.gated.remote(gate), handle.gated.remote(gate)
    journal.wait_for("in")
    one.cancel()
    gate.open()
    assert two.result(timeout_s=20) == "through"
    assert journal.lines() == ["in", "out"]


def test_callers_cancelled_before_the_batch_formed_are_dropped(
    handle: Any, gate: Gate, journal: Journal
) -> None:
    running = [handle.gated.remote(gate) for _ in range(2)]
    journal.wait_for("in")
    # They wait for the running batch to end; one leaves.
    waiting = [handle.gated.remote(gate) for _ in range(2)]
    waiting[0].cancel()
    gate.open()
    assert results(running) == ["through"] * 2
    assert waiting[1].result(timeout_s=20) == "through"
    wait_until(lambda: journal.count("out") == 2, "the second batch")


def test_setters_and_getters(handle: Any) -> None:
    assert handle.tune.remote(2, LONG_S).result(timeout_s=20) == (2, LONG_S)
    assert results([handle.soon.remote(n) for n in range(4)]) == [2] * 4


def test_what_debuggers_ask(handle: Any, gate: Gate, journal: Journal) -> None:
    response = handle.gated.remote(gate)
    journal.wait_for("in")
    assert tuple(handle.inside.remote().result(timeout_s=20)) == (True, 1)
    gate.open()
    assert response.result(timeout_s=20) == "through"


# ---- sizes -------------------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=100)
class Weighed:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.05, batch_size_fn=sum)
    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        return items

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.05, batch_size_fn=lambda items: 10 // items[-1])
    async def broken(self, items: list[int]) -> list[int]:
        return items

    async def seen(self) -> list[list[int]]:
        return self.batches


def test_batch_size_fn_counts_instead_of_the_number_of_items(instance: Instance) -> None:
    handle = instance.run(Weighed.bind()).handle
    assert results([handle.remote(size) for size in (6, 3, 4, 5, 9, 1)]) == [6, 3, 4, 5, 9, 1]
    batches = handle.seen.remote().result(timeout_s=20)
    assert all(sum(batch) <= 10 for batch in batches)
    assert len(batches) < 6


def test_an_item_larger_than_a_batch_is_a_runtime_error_for_its_caller_only(instance: Instance) -> None:
    handle = instance.run(Weighed.bind()).handle
    small, large = results([handle.remote(3), handle.remote(11)])
    assert small == 3
    assert isinstance(large, RuntimeError)


@differs("batch-broken-size-function")
def test_a_broken_size_function_fails_one_call(instance: Instance) -> None:
    handle = instance.run(Weighed.bind()).handle
    assert isinstance(results([handle.broken.remote(0)])[0], ZeroDivisionError)
    assert results([handle.broken.remote(n) for n in (5, 10)]) == [5, 10]


@differs("batch-deferred-items")
def test_deferred_items_keep_their_order(instance: Instance) -> None:
    handle = instance.run(Weighed.bind()).handle
    results([handle.remote(size) for size in (6, 7, 2, 1, 3)])
    batches = handle.seen.remote().result(timeout_s=20)
    assert [size for batch in batches for size in batch] == [6, 7, 2, 1, 3]


# ---- who shares a batch ------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=100)
class Instances:
    """Two instances of a class in one process."""

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
        async def ask(self, items: list[int]) -> list[str]:
            return [f"{self.name}{item}" for item in items]

    def __init__(self) -> None:
        self.parts = [self.Part("a"), self.Part("b")]

    async def __call__(self) -> list[str]:
        return await asyncio.gather(*(part.ask(number) for number in (1, 2) for part in self.parts))

    async def shared(self) -> int:
        self.parts[0].ask.set_max_batch_size(7)
        return self.parts[1].ask._get_max_batch_size()


def test_instances_share_their_settings(instance: Instance) -> None:
    assert instance.run(Instances.bind()).handle.shared.remote().result(timeout_s=20) == 7


@differs("batch-of-one-instance")
def test_a_batch_belongs_to_one_instance(instance: Instance) -> None:
    assert instance.run(Instances.bind()).call() == ["a1", "b1", "a2", "b2"]


@serve.deployment(max_ongoing_requests=100)
class ByModel:
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.1)
    async def __call__(self, items: list[int]) -> list[str]:
        model = serve.get_multiplexed_model_id()
        return [f"{model}: {items}" for _ in items]


def test_models_do_not_share_a_batch(instance: Instance) -> None:
    handle = instance.run(ByModel.bind()).handle
    by_model = {model: handle.options(multiplexed_model_id=model) for model in ("m1", "m2")}
    answers = results([by_model[model].remote(n) for n, model in enumerate(["m1", "m2", "m1", "m2"])])
    assert [answer[:2] for answer in answers] == ["m1", "m2", "m1", "m2"]
    for number, answer in enumerate(answers):
        items = [int(item) for item in answer.partition("[")[2].rstrip("]").split(",")]
        assert number in items
        assert all(item % 2 == number % 2 for item in items)


# ---- streams -----------------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=100)
class Streamer:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=LONG_S)
    async def count(self, lengths: list[int]) -> AsyncIterator[list[Any]]:
        for step in range(max(lengths)):
            yield [step if step < length else StopIteration for length in lengths]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=LONG_S)
    async def short(self, items: list[int]) -> AsyncIterator[list[int]]:
        yield items
        yield items[:1]

    async def relay(self, name: str, item: int) -> AsyncIterator[Any]:
        async for value in getattr(self, name)(item):
            yield value


def read_both(handle: Any, name: str, items: list[int]) -> list[list[Any]]:
    """Two streams, read side by side."""

    async def read(item: int) -> list[Any]:
        values: list[Any] = []
        try:
            async for value in handle.options(stream=True).relay.remote(name, item):
                values.append(value)
        except exceptions.RayServeException:
            values.append("RayServeException")
        return values

    async def main() -> list[list[Any]]:
        return await asyncio.gather(*(read(item) for item in items))

    return asyncio.run(main())


def test_each_caller_reads_its_slice_until_its_stop_iteration(instance: Instance) -> None:
    handle = instance.run(Streamer.bind()).handle
    assert read_both(handle, "count", [1, 3]) == [[0], [0, 1, 2]]


def test_a_row_of_the_wrong_length_fails_all_streams(instance: Instance) -> None:
    handle = instance.run(Streamer.bind()).handle
    assert read_both(handle, "short", [7, 8]) == [[7, "RayServeException"], [8, "RayServeException"]]


@differs("batched-generator-by-handle")
def test_a_batched_generator_can_be_called_by_a_handle(instance: Instance) -> None:
    handle = instance.run(Streamer.bind()).handle.options(stream=True)
    one, two = handle.count.remote(1), handle.count.remote(2)
    assert (list(one), list(two)) == ([0], [0, 1])


# ---- what is ours ------------------------------------------------------------------------------------------------


@serve.deployment(max_ongoing_requests=100)
class Ours:
    def __init__(self) -> None:
        self.bodies = 0

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=LONG_S)
    async def roots(self, items: list[float]) -> list[Any]:
        return [item**0.5 if item >= 0 else ValueError(f"{item} is negative") for item in items]


@differs("batch-exception-objects")
def test_an_exception_among_the_results_reaches_only_its_caller(instance: Instance) -> None:
    handle = instance.run(Ours.bind()).handle
    one, two, three = results([handle.roots.remote(item) for item in (4, -1, 9)])
    assert (one, three) == (2, 3)
    assert isinstance(two, ValueError)


@serve.deployment
class Unlimited:
    """Its default limit of 5 would never let a batch of 16 fill."""

    def __init__(self, size: int) -> None:
        self.sizes.set_max_batch_size(size)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=LONG_S)
    async def sizes(self, items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    async def resize(self, size: int) -> None:
        self.sizes.set_max_batch_size(size)


@differs("batch-capacity")
def test_batches_raise_a_default_limit(instance: Instance) -> None:
    handle = instance.run(Unlimited.bind(16)).handle
    assert results([handle.sizes.remote(n) for n in range(16)]) == [16] * 16
    handle.resize.remote(24).result(timeout_s=20)
    assert results([handle.sizes.remote(n) for n in range(24)]) == [24] * 24
