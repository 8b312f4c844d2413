"""Streams of batches keep pace with their readers: bodies that never await, readers that stop, leave or never begin."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from eagleray import serve
from eagleray.serve.batch_item import MOST_UNREAD

ROWS = 10 * MOST_UNREAD


class Endless:
    """A body that never awaits, and what became of it."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows = rows
        self.made = 0
        self.closed = asyncio.Event()

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def stream(self, items: list[int]) -> AsyncGenerator[list[int], None]:
        try:
            while self.made < self.rows:
                self.made += 1
                yield [self.made] * len(items)
        finally:
            self.closed.set()


async def quiet() -> None:
    """When the loop has had more turns than the whole stream needs."""
    for _ in range(8 * ROWS):
        await asyncio.sleep(0)


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def within(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_first_row_is_read_before_the_second_is_made() -> None:
    async def main() -> None:
        body = Endless()
        seen = [body.made async for _ in body.stream(0)]
        assert seen == list(range(1, ROWS + 1))

    within(main)


def test_the_slowest_reader_sets_the_pace_and_nobody_loses_a_row() -> None:
    async def main() -> None:
        body = Endless()
        slow, quick = body.stream(0), asyncio.ensure_future(collect(body.stream(1)))
        await quiet()
        assert body.made == MOST_UNREAD
        assert await anext(slow) == 1
        await quiet()
        assert body.made == MOST_UNREAD + 1 and not quick.done()
        assert await collect(slow) == list(range(2, ROWS + 1))
        assert await quick == list(range(1, ROWS + 1))

    within(main)


def test_a_slow_reader_that_leaves_frees_the_others() -> None:
    async def main() -> None:
        body = Endless()
        slow, quick = body.stream(0), asyncio.ensure_future(collect(body.stream(1)))
        await anext(slow)
        await quiet()
        assert not quick.done()
        await slow.aclose()
        assert await quick == list(range(1, ROWS + 1))

    within(main)


def test_a_caller_that_never_begins_to_read_leaves_when_it_drops_its_stream() -> None:
    async def main() -> None:
        body = Endless()
        unread, quick = body.stream(0), asyncio.ensure_future(collect(body.stream(1)))
        await quiet()
        assert not quick.done()
        del unread
        gc.collect()
        assert await quick == list(range(1, ROWS + 1))

    within(main)


def test_a_body_is_closed_at_its_next_yield_when_all_have_left() -> None:
    async def main() -> None:
        body = Endless()
        first, second = body.stream(0), body.stream(1)
        await gather(anext(first), anext(second))
        await gather(first.aclose(), second.aclose())
        made = body.made
        await body.closed.wait()
        assert body.made <= made + 1 < ROWS
        assert await collect(Endless(3).stream(0)) == [1, 2, 3]

    async def gather(*calls: Any) -> None:
        await asyncio.gather(*calls)

    within(main)


def test_a_body_that_waits_for_its_readers_is_closed_when_they_leave() -> None:
    async def main() -> None:
        body = Endless()
        reader = body.stream(0)
        await anext(reader)
        await quiet()
        assert not body.closed.is_set()
        await reader.aclose()
        await body.closed.wait()
        assert body.made == MOST_UNREAD + 1

    within(main)


def test_a_reader_whose_stream_has_ended_holds_nobody_up() -> None:
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def rows(items: list[int]) -> AsyncGenerator[list[Any], None]:
        for step in range(ROWS):
            yield [step if step < length else StopIteration for length in items]

    async def main() -> None:
        short, long = rows(MOST_UNREAD - 1), asyncio.ensure_future(collect(rows(ROWS)))
        assert await long == list(range(ROWS))
        assert await collect(short) == list(range(MOST_UNREAD - 1))

    within(main)
