"""Updates under load: no request fails, whether the new version works, does not, or loses a replica on the way.

`ROLLOUTS=100` makes it a soak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.fault.ledger import Ledger
from tests.ports import free_port

from eagleray import serve
from eagleray.base.errors import EaglerayError

ROLLOUTS = int(os.environ.get("ROLLOUTS", "20"))
FAILING = max(ROLLOUTS // 2, 1) if "ROLLOUTS" in os.environ else 4
KILLS = max(ROLLOUTS // 5, 1)
REPLICAS = 2
WORK_S = 0.02

Options = dict[str, Any]


class Versioned:
    """Answers `<version> <pid>`, at `/stream` item by item, for longer than a replica takes to start."""

    def __init__(self, version: str) -> None:
        self.answer = f"{version} {os.getpid()}"

    async def __call__(self, request: Any) -> Any:
        if request.url.path == "/stream":
            from starlette.responses import StreamingResponse

            return StreamingResponse(self._stream(), media_type="text/plain")
        await asyncio.sleep(WORK_S)
        return self.answer

    async def _stream(self) -> AsyncIterator[str]:
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield "."
        yield self.answer


class Failing:
    def __init__(self, version: str) -> None:
        raise ValueError(f"{version} has no weights")

    async def __call__(self) -> str:
        return ""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()


def deploy(kind: type, version: str, **options: Any) -> None:
    deployment = serve.deployment(
        name="versioned", num_replicas=REPLICAS, max_ongoing_requests=100, **options
    )(kind)
    serve.run(deployment.bind(version), name="rollouts")


@asynccontextmanager
async def load(port: int) -> AsyncIterator[tuple[Ledger, Ledger]]:
    plain = Ledger("127.0.0.1", port, rate_per_s=100.0)
    streams = Ledger("127.0.0.1", port, "/stream", rate_per_s=5.0)
    async with plain.running(), streams.running():
        await plain.wait_answers(50)
        yield plain, streams
        await plain.wait_answers(50)
    plain.check()
    streams.check()


def versions(ledger: Ledger) -> set[str]:
    return {body.lstrip(".").split()[0] for body in ledger.bodies()}


def test_no_request_fails_in_updates(port: int) -> None:
    deploy(Versioned, "v0")

    async def updates() -> tuple[Ledger, Ledger]:
        async with load(port) as ledgers:
            for number in range(1, ROLLOUTS + 1):
                await asyncio.to_thread(deploy, Versioned, f"v{number}")
                await ledgers[0].wait_answers(10)
        return ledgers

    plain, streams = asyncio.run(updates())
    assert plain.failures() == []
    assert streams.failures() == []
    assert versions(plain) == {f"v{number}" for number in range(ROLLOUTS + 1)}


@pytest.mark.parametrize("auto_rollback", [False, True])
def test_no_request_fails_in_updates_that_fail(port: int, auto_rollback: bool) -> None:
    deploy(Versioned, "good")

    async def updates() -> tuple[Ledger, Ledger]:
        async with load(port) as ledgers:
            for number in range(FAILING):
                with pytest.raises((EaglerayError, RuntimeError), match="has no weights"):
                    await asyncio.to_thread(deploy, Failing, f"bad{number}", auto_rollback=auto_rollback)
                status = await asyncio.to_thread(serve.status)
                overview = status.applications["rollouts"].deployments["versioned"]
                assert overview.status == "DEPLOY_FAILED"
                assert ("rolled back" in overview.message) == auto_rollback
                assert overview.replica_states.get("RUNNING") == REPLICAS
        return ledgers

    plain, streams = asyncio.run(updates())
    assert plain.failures() == []
    assert streams.failures() == []
    assert versions(plain) == {"good"}
    assert len(plain.bodies()) == REPLICAS, "the same replicas all the time"


def test_killed_replicas_are_all_that_fails(port: int) -> None:
    deploy(Versioned, "k")
    kills: list[float] = []

    async def updates() -> tuple[Ledger, Ledger]:
        async with load(port) as ledgers:
            for number in range(KILLS):
                since = time.monotonic()
                await ledgers[0].wait_answers(20)
                victim = int(next(iter(ledgers[0].bodies(since))).split()[1])
                update = asyncio.create_task(asyncio.to_thread(deploy, Versioned, f"k{number}"))
                await ledgers[0].wait_answers(1 + 7 * number)
                with contextlib.suppress(ProcessLookupError):  # the update was faster
                    kills.append(time.monotonic())
                    os.kill(victim, signal.SIGKILL)
                await update
        return ledgers

    for ledger in asyncio.run(updates()):
        assert ledger.unexplained(kills) == []
