"""Callers of a batched function under any mix of bodies that fail, callers that leave and settings that change.

Each caller gets its own result, its own failure or its own cancellation, and in the end nothing waits or runs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray import serve
from eagleray.base.errors import EaglerayError
from eagleray.serve.batching import batcher_of

FINE, ALONE, GUILTY, SHORT, CANCELS = "fine", "alone", "guilty", "short", "cancels"

calls = st.tuples(
    st.sampled_from([FINE, FINE, FINE, ALONE, GUILTY, SHORT, CANCELS]),
    st.integers(0, 4),  # turns of the loop before it is made
    st.none() | st.integers(0, 6),  # turns after which its caller leaves
    st.integers(1, 3),  # turns that its batch takes at least
)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(
    script=st.lists(calls, min_size=1, max_size=25),
    size=st.integers(1, 5),
    concurrency=st.integers(1, 3),
    isolates=st.booleans(),
    target=st.booleans(),
    new_size=st.none() | st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_every_caller_ends_once_and_as_its_batch_says(
    script: list[Any], size: int, concurrency: int, isolates: bool, target: bool, new_size: int | None
) -> None:
    running = most = 0

    @serve.batch(
        max_batch_size=size,
        batch_wait_timeout_s=0,
        max_concurrent_batches=concurrency,
        isolate_errors=isolates,
        latency_target_s=1.0 if target else None,
    )
    async def body(kinds: list[str], numbers: list[int], lengths: list[int]) -> list[Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            assert len(kinds) <= 5
            await turns(max(lengths))
            if GUILTY in kinds:
                raise KeyError("guilty")
            if CANCELS in kinds:
                raise asyncio.CancelledError
            results = [
                ValueError(number) if kind == ALONE else number
                for kind, number in zip(kinds, numbers, strict=True)
            ]
            return results[1:] if SHORT in kinds else results
        finally:
            running -= 1

    async def call(number: int, kind: str, before: int, length: int) -> Any:
        await turns(before)
        return await body(kind, number, length)

    async def main() -> list[Any]:
        tasks = [
            asyncio.ensure_future(call(number, kind, before, length))
            for number, (kind, before, _, length) in enumerate(script)
        ]
        leaving = [
            asyncio.ensure_future(leave(task, after))
            for task, (_, _, after, _) in zip(tasks, script, strict=True)
            if after is not None
        ]
        if new_size is not None:
            await turns(2)
            body.set_max_batch_size(new_size)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*leaving)
        await turns(12)
        batcher = batcher_of(body)
        assert batcher is not None
        for queue in batcher._queues.values():
            assert not queue.start_times or any(after is not None for _, _, after, _ in script)
            while queue.start_times:  # batches whose callers have left go on to their end
                await turns(1)
            await turns(12)
            assert queue.former.waiting == 0
        return results

    async def leave(task: asyncio.Task[Any], after: int) -> None:
        await turns(after)
        task.cancel()

    results = asyncio.run(main())
    assert running == 0
    assert most <= concurrency
    is_whole = not isolates and size > 1
    for number, (result, (kind, _, after, _)) in enumerate(zip(results, script, strict=True)):
        if isinstance(result, asyncio.CancelledError):
            assert after is not None or any(other == CANCELS for other, *_ in script)
        elif isinstance(result, KeyError):
            assert kind == GUILTY or is_whole or (new_size is not None and not isolates)
        elif isinstance(result, EaglerayError):
            assert any(other == SHORT for other, *_ in script)
        elif isinstance(result, ValueError):
            assert kind == ALONE and result.args == (number,)
        else:
            assert result == number and kind == FINE
