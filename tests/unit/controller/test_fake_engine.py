"""The fake engine keeps those promises of the Engine protocol that the controller's tests rely on."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable

import pytest
from tests.fake_engine import FakeEngine

from eagleray.engine.base import Engine, EngineError
from eagleray.rpc.client import Client
from eagleray.wire.control import Empty, Health, StartChild


def drive(scenario: Callable[[FakeEngine, str], Awaitable[None]]) -> None:
    async def main() -> None:
        directory = tempfile.mkdtemp(prefix="er-")
        engine = FakeEngine()
        try:
            await scenario(engine, directory)
        finally:
            await engine.close()
            shutil.rmtree(directory)

    asyncio.run(main())


def child(directory: str, ref: str = "a") -> StartChild:
    return StartChild(ref=ref, module="role", listen=f"{directory}/{ref}.sock")


def test_accepts_connects_as_soon_as_started() -> None:
    async def scenario(engine: FakeEngine, directory: str) -> None:
        contract: Engine = engine
        await contract.start(child(directory))
        client = await Client.connect(f"unix:{directory}/a.sock")
        assert (await client.request("check_health", Empty(), Health, timeout_s=5)).error == ""
        client.close()

    drive(scenario)


def test_death_closes_connections_and_is_reported_once() -> None:
    async def scenario(engine: FakeEngine, directory: str) -> None:
        started = await engine.start(child(directory))
        closed = asyncio.Event()
        await Client.connect(f"unix:{directory}/a.sock", on_close=lambda client: closed.set())
        await engine.stop("a", 9)
        await closed.wait()
        exited = await anext(engine.exits())
        assert (exited.ref, exited.pid, exited.status) == ("a", started.pid, -9)
        assert "a.sock" not in os.listdir(directory)
        assert await engine.children() == []
        await engine.stop("a", 9)

    drive(scenario)


def test_refuses_a_ref_in_use() -> None:
    async def scenario(engine: FakeEngine, directory: str) -> None:
        await engine.start(child(directory))
        with pytest.raises(EngineError) as refused:
            await engine.start(child(directory))
        assert refused.value.code == "exists"
        assert [living.ref for living in await engine.children()] == ["a"]

    drive(scenario)
