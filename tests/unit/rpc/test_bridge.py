"""What threads put on a bridge runs on its loop: all of it, in order, in bursts."""

from __future__ import annotations

import asyncio
import threading

import pytest

from eagleray.rpc.bridge import Bridge


def test_everything_runs_on_the_loop_in_the_order_of_each_thread() -> None:
    ran: list[tuple[int, int]] = []
    on: set[int] = set()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        bridge = Bridge(loop)
        done = asyncio.Event()

        def take(thread: int, number: int) -> None:
            ran.append((thread, number))
            on.add(threading.get_ident())
            if len(ran) == 4 * 2000:
                done.set()

        def put(thread: int) -> None:
            for number in range(2000):
                assert bridge.put(take, thread, number)

        threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(20):
            await done.wait()
        for thread in threads:
            thread.join()

    asyncio.run(run())
    for thread in range(4):
        assert [number for who, number in ran if who == thread] == list(range(2000))
    assert on == {threading.get_ident()}


def test_a_burst_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        wakes: list[object] = []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda fn: (wakes.append(fn), wake(fn))[1])
        bridge = Bridge(loop)
        ran: list[int] = []
        for number in range(100):
            bridge.put(ran.append, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == list(range(100)) and len(wakes) == 1

    asyncio.run(run())


def test_what_raises_is_logged_and_the_rest_runs(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        bridge = Bridge(asyncio.get_running_loop())
        ran: list[int] = []
        bridge.put(lambda: 1 / 0)
        bridge.put(ran.append, 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == [1]

    asyncio.run(run())
    assert len(caplog.records) == 1


def test_a_closed_bridge_and_a_closed_loop_take_nothing() -> None:
    loop = asyncio.new_event_loop()
    bridge, closed = Bridge(loop), Bridge(loop)
    closed.close()
    assert not closed.put(print)
    loop.close()
    assert not bridge.put(print)
