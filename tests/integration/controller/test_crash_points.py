"""The controller dies before and after every durable write of a long scenario: nothing acknowledged is lost, nothing
half-done is kept, and no process is left without an owner.

Lives end at their first, second or third write beyond that of their boot (the first is often that of the adoption),
alternately before and after the commit: once it has not happened, once nobody has heard that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.decided import application
from tests.fake_engine import FakeEngine
from tests.integration.controller.test_controller import Running, directory

from eagleray.base.errors import EaglerayError
from eagleray.controller import publisher
from eagleray.controller.boot import run_controller
from eagleray.reconcile.applications import APPLICATIONS, ApplicationRow
from eagleray.reconcile.instance import InstanceRow
from eagleray.reconcile.world import INSTANCES
from eagleray.rpc.client import Client
from eagleray.store.base import Transaction
from eagleray.store.sqlite import SqliteStore
from eagleray.wire.control import Accepted, DeleteApplications, Deploy, Empty, StatusReply

__all__ = ["directory"]

STEPS = int(os.environ.get("STEPS", "60"))
SEED = int(os.environ.get("SEED", "1"))
NAMES = ("a", "b", "c")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Fate:
    """Counts the durable writes of all lives and ends lives at them."""

    def __init__(self) -> None:
        self.active = True
        self.kills: Counter[str] = Counter()
        self._spared = 0
        self._lives = 0

    def begin_life(self) -> None:
        self._spared = 1 + self._lives // 2 % 3
        self._lives += 1

    def strike(self) -> str:
        """`before` or `after` the write that is about to happen, or nothing."""
        self._spared -= 1
        if self._spared >= 0 or not self.active:
            return ""
        when = "before" if self._lives % 2 else "after"
        self.kills[when] += 1
        return when


class Watched:
    """A transaction that knows whether it has written."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.has_written = False

    def __getattr__(self, name: str) -> Any:
        self.has_written |= name in ("put", "delete", "put_blob", "keep_blobs")
        return getattr(self._transaction, name)


class MortalStore(SqliteStore):
    def __init__(self, path: str, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        when = ""
        with super().transaction() as transaction:
            watched = Watched(transaction)
            yield watched  # type: ignore[misc]  # by __getattr__
            if watched.has_written:
                when = self._fate.strike()
            if when == "before":
                raise Killed
        if when == "after":
            raise Killed


class Mortal(Running):
    """An instance whose controller is started again whenever it has died."""

    def __init__(self, path: Path, engine: FakeEngine) -> None:
        super().__init__(path, engine)
        self.fate = Fate()
        self.lives = 0
        self.model: dict[str, str] = {}
        """What has been acknowledged: name -> spec."""
        self.pending: dict[str, str] = {}
        """What is being asked for; "" is a deletion."""

    async def live(self) -> None:
        while True:
            self.check_rows()
            self.fate.begin_life()
            store = MortalStore(str(self.directory), self.fate)
            self.lives += 1
            try:
                await run_controller(self.config, self.engine, store, self.listener.dup())
                return
            except Killed:
                continue

    def check_rows(self) -> None:
        """Old or new, never a third."""
        rows = {
            name: row for name, row in self.rows(APPLICATIONS, ApplicationRow).items() if not row.deleting
        }
        for name in NAMES:
            allowed = {self.model.get(name, ""), self.pending.get(name, self.model.get(name, ""))}
            assert (rows[name].spec if name in rows else "") in allowed, f"{name} in life {self.lives}"

    def rows(self, table: str, kind: type[Any]) -> dict[str, Any]:
        store = SqliteStore(str(self.directory))
        try:
            with store.transaction() as transaction:
                return {key: msgspec.json.decode(value, type=kind) for key, value in transaction.scan(table)}
        finally:
            store.close()

    async def insist(self, method: str, message: Any, reply: type[Any]) -> Any:
        """Asks until somebody lives long enough to answer."""
        while True:
            client = await Client.connect(self.address)
            try:
                return await client.request(method, message, reply, timeout_s=1.0)
            except EaglerayError:
                pass  # a refusal would be in the answer: it has died, more politely here than by SIGKILL
            finally:
                client.close()

    async def step(self, draw: random.Random) -> None:
        name = draw.choice(NAMES)
        if name in self.model and draw.random() < 0.25:
            self.pending = {name: ""}
            await self.insist("delete", DeleteApplications(names=[name]), Empty)
            del self.model[name]
        else:
            options = {"num_replicas": draw.randint(1, 2), "user_config": {"n": draw.randint(1, 3)}}
            version = f"v{draw.randint(1, 2)}"
            spec = application(name, f"/{name}", version=version, model=options)
            self.pending = {name: spec}
            accepted = await self.insist("deploy", Deploy(specs=[spec.encode()]), Accepted)
            assert accepted.error == ""
            self.model[name] = spec
        self.pending = {}
        if draw.random() < 0.5:
            await self.converged()

    async def converged(self) -> None:
        """Everything that was acknowledged is true."""
        while True:
            status = json.loads(await self.insist_status())["applications"]
            if (
                set(status) == set(self.model)
                and all(one["status"] == "RUNNING" for one in status.values())
                and self.replicas() == self.wanted()
            ):
                return
            await asyncio.sleep(0.005)

    async def insist_status(self) -> bytes:
        status: bytes = (await self.insist("status", Empty(), StatusReply)).status
        return status

    def wanted(self) -> Counter[str]:
        """Replicas of each application."""
        specs = {name: json.loads(spec) for name, spec in self.model.items()}
        return Counter({name: spec["deployments"][0]["spec"]["num_replicas"] for name, spec in specs.items()})

    def replicas(self) -> Counter[str]:
        return Counter(child.launch.app for child in self.engine.replicas())


# asyncio's server forgets a connection that it accepts while it closes; the kernel closes those of a dead process.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_death_at_every_durable_write(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "SETTLE_S", 0.0)

    async def main() -> None:
        engine = FakeEngine()
        running = Mortal(directory, engine)
        life = asyncio.create_task(running.live(), name="lives")
        draw = random.Random(SEED)
        try:
            async with asyncio.timeout(300):
                scenario = asyncio.create_task(_scenario(running, draw), name="scenario")
                await asyncio.wait({scenario, life}, return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    scenario.cancel()
                    life.result()
                await scenario
        finally:
            life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await life
            await engine.close()
            running.listener.close()
        owners = running.rows(INSTANCES, InstanceRow)
        assert set(owners) >= set(engine.living)

    asyncio.run(main())
    gc.collect()


async def _scenario(running: Mortal, draw: random.Random) -> None:
    for _ in range(STEPS):
        await running.step(draw)
    await running.converged()
    assert running.fate.kills["before"] > STEPS and running.fate.kills["after"] > STEPS
    running.fate.active = False
    await running.converged()
    owned = set(running.rows(INSTANCES, InstanceRow))
    assert set(running.engine.living) <= owned, "no process without an owner"
