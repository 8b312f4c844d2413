"""What the observer tells of the end of a process."""

from __future__ import annotations

import asyncio

import pytest
from tests.fake_engine import FakeEngine

from eagleray.controller.observer import Observer
from eagleray.reconcile.events import Event, Happened
from eagleray.wire.control import StartChild


@pytest.mark.parametrize("is_meant", [True, False])
def test_memory_is_suspected_only_when_nobody_has_killed_it(is_meant: bool) -> None:
    async def main() -> None:
        engine = FakeEngine()
        told: asyncio.Queue[Event] = asyncio.Queue()
        observer = Observer(engine, told.put_nowait, lambda ref: "")
        watching = asyncio.create_task(observer.watch_exits())
        await engine.start(StartChild(ref="a", module="role"))
        await (observer if is_meant else engine).stop("a", 9)
        event = await asyncio.wait_for(told.get(), 30)
        assert isinstance(event, Happened)
        assert "was ended by SIGKILL" in event.reason
        assert ("out of memory" in event.reason) is not is_meant
        watching.cancel()
        await asyncio.wait({watching})
        await engine.close()

    asyncio.run(main())
