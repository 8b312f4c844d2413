"""Start, reconfiguration, health, drain and stop of a real replica."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.replica.replica_process import replica, until

from eagleray.base.errors import RequestTimeoutError
from eagleray.rpc.client import Client
from eagleray.serve.context import get_replica_context
from eagleray.wire.control import Drain, Empty, Health, Ready, Reconfigure

REPORT: list[str] = []
"""What the classes below report; replicas run in this process, and pickled classes find it by import."""


@pytest.fixture(autouse=True)
def report(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    REPORT.clear()
    # A replica takes `__del__` from its class once it has run; here the class serves several replicas.
    for kind in (Recording, Slow):
        monkeypatch.setattr(kind, "__del__", vars(kind)["__del__"])
    yield REPORT
    gc.collect()  # instances must go before their classes get `__del__` back


class Recording:
    def __init__(self) -> None:
        context = get_replica_context()
        self.made = (
            context.app_name,
            context.deployment,
            context.replica_tag,
            context.world_size,
            context.rank.rank,
        )

    async def __call__(self) -> str:
        return "ok"

    async def context(self) -> tuple[Any, bool]:
        return self.made, get_replica_context().servable_object is self

    def __del__(self) -> None:
        REPORT.append("del")


def test_the_constructor_knows_its_replica_and_del_runs_once_at_drain() -> None:
    async def main() -> None:
        async with replica(Recording, rank=2, world_size=3) as r:
            assert await r.value("context") == (("app", "D", "abcdefgh", 3, 2), True)
            assert r.ready.methods == ["__call__", "context"] and r.ready.pid
            await r.drain()
            await asyncio.wait([r.life], timeout=10)
            assert r.life.done() and REPORT == ["del"]

    asyncio.run(main())
    assert REPORT == ["del"]


def test_del_runs_when_the_process_is_told_to_stop(report: list[str]) -> None:
    async def main() -> None:
        async with replica(Recording):
            pass

    asyncio.run(main())
    assert report == ["del"]


class Failing:
    def __init__(self, how: str) -> None:
        self.load(how)

    def load(self, how: str) -> None:
        if how == "exit":
            sys.exit("no weights")
        raise RuntimeError("no weights")


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_failing_constructor_is_reported_with_the_users_frames(how: str) -> None:
    async def main() -> None:
        async with replica(Failing, how, expect_error=True) as r:
            assert "no weights" in r.ready.error and "in load" in r.ready.error
            assert "eagleray/replica" not in r.ready.error
            call = await r.get()
            assert call.error is not None and call.error.code == "rejected"

    asyncio.run(main())


def test_a_target_is_imported_from_sys_path(tmp_path: Path) -> None:
    (tmp_path / "replica_under_test_module.py").write_text(
        "from eagleray.serve.deployment import deployment\n"
        "class Outer:\n"
        "    class Inner:\n"
        "        def __call__(self): return 'inner'\n"
        "@deployment\n"
        "def decorated(): return 'decorated'\n"
    )
    for name, answer in (("Outer.Inner", b"inner"), ("decorated", b"decorated"), ("Missing", None)):

        async def main(name: str = name, answer: bytes | None = answer) -> None:
            target = f"replica_under_test_module:{name}"
            async with replica(
                None, target=target, sys_path=[str(tmp_path)], expect_error=answer is None
            ) as r:
                if answer is None:
                    assert "'Missing' is missing from" in r.ready.error
                else:
                    assert (await r.get()).body == answer

        try:
            asyncio.run(main())
        finally:
            sys.modules.pop("replica_under_test_module", None)
            sys.path.remove(str(tmp_path))


class Configured:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def reconfigure(self, user_config: Any, rank: int) -> None:
        if user_config == "bad":
            raise ValueError("bad config")
        self.seen.append((user_config, rank))

    async def configs(self) -> list[Any]:
        return self.seen


def test_reconfigure() -> None:
    async def main() -> None:
        async with replica(Configured, user_config=json.dumps({"a": 1}).encode()) as r:

            async def change(**fields: Any) -> str:
                ready = await r.control.request("reconfigure", Reconfigure(**fields), Ready, timeout_s=5)
                return ready.error

            assert await change(user_config=b'{"a":2}') == ""
            assert await change(rank=4, world_size=5) == ""
            assert await change(max_ongoing_requests=7) == ""
            assert "bad config" in await change(user_config=b'"bad"')
            assert await r.value("configs") == [({"a": 1}, 0), ({"a": 2}, 0), ({"a": 2}, 4)]
            assert r.worker._slots.limit == 7

    asyncio.run(main())


class Sick:
    def __init__(self) -> None:
        self.sick = False

    def __call__(self) -> str:
        self.sick = True
        return "sick now"

    def check_health(self) -> None:
        if self.sick:
            raise RuntimeError("I am sick")


class Blocking:
    def __init__(self) -> None:
        self.go = threading.Event()

    async def __call__(self) -> str:
        self.go.wait(10)
        return "unblocked"


class SickFromTheStart(Sick):
    def __init__(self) -> None:
        self.sick = True


def test_the_first_health_check_belongs_to_the_start() -> None:
    async def main() -> None:
        async with replica(SickFromTheStart, expect_error=True) as r:
            assert "I am sick" in r.ready.error

    asyncio.run(main())


def test_health() -> None:
    async def main() -> None:
        async with replica(Sick) as r:
            assert (await r.control.request("check_health", Empty(), Health, timeout_s=5)).error == ""
            await r.get()
            assert (
                "I am sick" in (await r.control.request("check_health", Empty(), Health, timeout_s=5)).error
            )

    asyncio.run(main())


def test_a_blocked_user_loop_is_busy_not_dead() -> None:
    async def main() -> None:
        async with replica(Blocking) as r:
            call = r.http()
            await until(lambda: r.ongoing)
            assert not (await r.control.request("ready", Empty(), Ready, timeout_s=5)).error
            checking = asyncio.create_task(
                r.control.request("check_health", Empty(), Health, timeout_s=30), name="check"
            )
            with pytest.raises(RequestTimeoutError):  # as long as the loop does not turn there is no health
                await r.control.request("check_health", Empty(), Health, timeout_s=0.2)
            assert not checking.done()
            r.worker._replica.servable_object.go.set()
            await call.done.wait()
            assert call.body == b"unblocked"
            assert (await checking).error == ""

    asyncio.run(main())


class Slow:
    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        await self.go.wait()
        return "done"

    async def release(self) -> None:
        self.go.set()

    def __del__(self) -> None:
        REPORT.append("del")


def test_drain_finishes_what_is_in_flight_and_takes_nothing_new(report: list[str]) -> None:
    async def main() -> None:
        async with replica(Slow) as r:
            call = r.http()
            await until(lambda: r.ongoing)
            draining = asyncio.get_running_loop().create_task(r.drain(), name="drain")
            again = asyncio.get_running_loop().create_task(r.drain(), name="drain again")
            await until(lambda: r.worker._slots.draining)
            other = await Client.connect(r.address)
            refused = await r.get(client=other)
            assert refused.error is not None and refused.error.code == "draining"
            other.close()
            assert not draining.done() and report == []
            user = r.worker._replica.servable_object
            r.worker._user_loop.bridge.put(user.go.set)
            await call.done.wait()
            assert call.body == b"done"
            await draining
            await again
            assert report == ["del"]

    asyncio.run(main())


def test_drain_ends_what_does_not_end(report: list[str]) -> None:
    async def main() -> None:
        async with replica(Slow) as r:
            call = r.http()
            await until(lambda: r.ongoing)
            await r.control.request("drain", Drain(timeout_s=0.0), Empty, timeout_s=10)
            await call.done.wait()
            assert call.error is not None and call.error.code == "replica_died"
            assert report == ["del"]

    asyncio.run(main())
