"""`record_autoscaling_stats` is asked again and again, so one that hangs must not cost a thread each time."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

from tests.waiting import wait_until

from eagleray.base.metrics import Registry
from eagleray.replica.call import Floor
from eagleray.replica.stats import StatsHook
from eagleray.replica.user_loop import UserLoop


class Hangs:
    def __init__(self) -> None:
        self.calls = 0
        self.begun = threading.Event()
        self.goes_on = threading.Event()

    def record_autoscaling_stats(self) -> dict[str, float]:
        self.calls += 1
        self.begun.set()
        self.goes_on.wait(60)
        return {"level": 2}


def floor(instance: Any) -> Floor:
    return cast(Floor, SimpleNamespace(user=SimpleNamespace(instance=instance)))


async def ask_again_and_again() -> None:
    user_loop, user = UserLoop(), Hangs()
    stats = StatsHook(Registry(), ("D", "r", "app"))
    first = asyncio.ensure_future(stats.ask(user_loop, floor(user)))
    await asyncio.to_thread(user.begun.wait, 60)
    first.cancel()
    for _ in range(3):
        assert "has not returned" in (await stats.ask(user_loop, floor(user))).error
    assert user.calls == 1
    user.goes_on.set()
    await asyncio.to_thread(wait_until, lambda: not stats._is_asked, "its return")
    assert (await stats.ask(user_loop, floor(user))).values == {"level": 2.0}
    user_loop.stop()
    assert await user_loop.wait_ended(30.0)


def test_hook_that_has_not_returned_is_not_called_again() -> None:
    asyncio.run(ask_again_and_again())
