"""Owned tasks end with their owner, and what they raise is logged once."""

from __future__ import annotations

import asyncio

import pytest

from eagleray.base.tasks import Backoff, Tasks


def test_close_ends_all_tasks_also_those_that_are_started_meanwhile() -> None:
    ended: list[str] = []

    async def run() -> None:
        tasks = Tasks("owner")

        async def forever(name: str) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(name)
                if name == "first":
                    tasks.start(forever("second"), name="second")
                    await asyncio.sleep(0)

        task = tasks.start(forever("first"), name="first")
        assert task.get_name() == "owner: first" and len(tasks) == 1
        await asyncio.sleep(0)
        await tasks.close()
        await tasks.close()
        assert not len(tasks) and asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert ended[0] == "first"


def test_a_task_may_close_its_owner() -> None:
    async def run() -> None:
        tasks = Tasks("owner")
        other = tasks.start(asyncio.sleep(1000), name="other")
        await tasks.start(tasks.close(), name="closer")
        assert other.cancelled() and not len(tasks)

    asyncio.run(run())


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("boom")

    async def run() -> None:
        tasks = Tasks("owner")
        await asyncio.wait({tasks.start(fail(), name="bad")})
        await tasks.close()

    asyncio.run(run())
    assert [record.message for record in caplog.records] == ["task owner: bad failed"]


def test_backoff_grows_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(1.0, 5.0, jitter=0.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0
    assert all(0.75 <= Backoff(1.0, 5.0).next_s() <= 1.0 for _ in range(100))
