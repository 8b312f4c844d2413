"""What a process tells of its metrics: everything to who is new, then what has changed, and nothing when idle."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eagleray.base.metrics import Registry
from eagleray.rpc import feed as module
from eagleray.rpc.client import Client
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.feed import MetricsFeed
from eagleray.rpc.server import Server
from eagleray.wire.control import Empty, decode
from eagleray.wire.metrics import Shipment


@asynccontextmanager
async def serving(feed: MetricsFeed) -> AsyncIterator[str]:
    methods = ControlMethods({"metrics": feed.follow})
    server = Server(methods.dispatch)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        sock.listen(8)
        await server.start(sock)
        try:
            yield f"unix:{path}"
        finally:
            await methods.close()
            await server.close()


def values(chunk: bytes) -> dict[str, float]:
    return {one.name: one.samples[0].value for one in decode(chunk, Shipment).snapshots}


def test_who_comes_anew_is_told_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)

    async def main() -> None:
        registry = Registry()
        a, b = (registry.counter(name, "").value() for name in ("a", "b"))
        a.inc()
        async with serving(MetricsFeed(registry)) as address, asyncio.timeout(30):
            first = await Client.connect(address)
            told = first.subscribe("metrics", Empty())
            assert values(await anext(told)) == {"a": 1.0, "b": 0.0}
            b.inc(2)
            assert values(await anext(told)) == {"b": 2.0}
            second = await Client.connect(address)
            anew = second.subscribe("metrics", Empty())
            assert values(await anext(anew)) == {"a": 1.0, "b": 2.0}
            a.inc()
            assert values(await anext(anew)) == {"a": 2.0}
            await told.aclose()
            await anew.aclose()
            for client in (first, second):
                client.close()
                await client.wait_closed()

    asyncio.run(main())


def test_an_idle_process_naps_until_it_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "NAP_S", 1e6)

    async def main() -> None:
        registry = Registry()
        calls = registry.counter("calls", "").value()
        gauge = registry.gauge("gauge", "").value()
        looks: list[bool] = []
        slept = asyncio.Event()

        def on_look(late_s: float, is_busy: bool) -> None:
            looks.append(is_busy)
            gauge.value += 1  # what moves by itself is no reason to stay awake
            if feed.asleep:
                slept.set()

        feed = MetricsFeed(registry, naps=True, on_look=on_look)
        async with serving(feed) as address, asyncio.timeout(30):
            client = await Client.connect(address)
            told = client.subscribe("metrics", Empty())
            assert values(await anext(told)) == {"calls": 0.0, "gauge": 0.0}
            await slept.wait()
            assert looks[0] and not any(looks[1:])
            calls.inc()
            await asyncio.to_thread(feed.wake)
            assert not feed.asleep
            while "calls" not in (news := values(await anext(told))):
                pass
            assert news["calls"] == 1.0
            await told.aclose()
            client.close()
            await client.wait_closed()

    asyncio.run(main())


def test_a_reader_that_does_not_read_is_sent_the_newest_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.001)

    async def main() -> None:
        registry = Registry()
        metric = registry.counter("calls", "", "route")
        series = [metric.value(f"/{number:0>900}") for number in range(900)]
        feed = MetricsFeed(registry)
        async with serving(feed) as address, asyncio.timeout(60):
            client = await Client.connect(address)
            told = client.subscribe("metrics", Empty())
            await anext(told)
            while not feed.is_held_back:  # nobody reads: sooner or later the window is full
                for one in series:
                    one.inc()
                await asyncio.sleep(0)
            for one in series:
                one.inc(1e6)
            while True:
                shipment = decode(await anext(told), Shipment)
                if shipment.snapshots[0].samples[0].value >= 1e6:
                    break
            assert len(shipment.snapshots[0].samples) == len(series)
            await told.aclose()
            client.close()
            await client.wait_closed()

    asyncio.run(main())
