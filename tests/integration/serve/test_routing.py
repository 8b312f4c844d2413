"""Routing with real replicas: models are found, full holders not waited for for ever, failing replicas left out."""

from __future__ import annotations

import asyncio
import http.client
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve.context import process

PORT = 0


def tag() -> str:
    return serve.get_replica_context().replica_tag


@serve.deployment(num_replicas=3, max_ongoing_requests=4)
class Models:
    """Loads are written down; a request may stay until a file is there."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    async def passed(self, name: str) -> None:
        while not (self.directory / name).exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)

    @serve.multiplexed(max_num_models_per_replica=2)
    async def get(self, model_id: str) -> str:
        (self.directory / f"load {model_id} {tag()}").touch()
        await self.passed("open")
        return model_id

    async def __call__(self, gate: str = "open") -> str:
        await self.get(serve.get_multiplexed_model_id())
        await self.passed(gate)
        return tag()


@serve.deployment(num_replicas=3)
class Flaky:
    async def __call__(self) -> str:
        if serve.get_replica_context().rank.rank == 0:
            raise RuntimeError("broken device")
        return tag()


@serve.deployment(num_replicas=2, max_ongoing_requests=20)
class Stuck:
    """Its first replica answers nothing as long as the file is there."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def __call__(self) -> str:
        while serve.get_replica_context().rank.rank == 0 and self.path.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return tag()


@pytest.fixture(autouse=True, scope="module")
def instance() -> Iterator[None]:
    global PORT
    PORT = free_port()
    serve.start(http_options={"port": PORT})
    yield
    serve.shutdown()


def targets(key: str) -> list[Any]:
    assert process.runtime is not None
    pool = process.runtime._router._pools.get(key)
    return list(pool.targets) if pool is not None else []


def connected(key: str, handle: Any) -> None:
    """The driver knows all replicas, and what they say of themselves."""
    with pytest.raises(ValueError, match="empty"):
        handle.remote().result(timeout_s=20)
    wait_until(lambda: len(targets(key)) == 3 and all(target.models is not None for target in targets(key)))


def loads(directory: Path, model_id: str) -> list[str]:
    return [path.name.split()[2] for path in directory.glob(f"load {model_id} *")]


def test_a_burst_for_a_new_model_loads_it_once(tmp_path: Path) -> None:
    roomy = Models.options(max_ongoing_requests=30)
    handle = serve.run(roomy.bind(str(tmp_path)), name="burst", route_prefix=None)
    connected("burst#Models", handle)
    responses = {
        model_id: [handle.options(multiplexed_model_id=model_id).remote() for _ in range(4)]
        for model_id in "abcdef"
    }
    wait_until(lambda: all(loads(tmp_path, model_id) for model_id in "abc"))
    (tmp_path / "open").touch()
    where = {m: {r.result(timeout_s=20) for r in found} for m, found in responses.items()}
    assert all(len(found) == 1 for found in where.values()), where
    assert {m: set(loads(tmp_path, m)) for m in "abcdef"} == where
    assert max(Counter(next(iter(found)) for found in where.values()).values()) == 2, "two for each replica"


def test_a_full_holder_is_waited_for_a_while_and_then_another_one_loads_the_model(tmp_path: Path) -> None:
    handle = serve.run(Models.bind(str(tmp_path)), name="full", route_prefix=None)
    (tmp_path / "open").touch()
    connected("full#Models", handle)
    model = handle.options(multiplexed_model_id="m")
    (holder,) = {model.remote().result(timeout_s=20) for _ in range(3)}
    busy = [model.remote("late") for _ in range(4)]
    late = model.remote()
    others = [handle.options(multiplexed_model_id=f"other{number}").remote() for number in range(2)]
    assert all(other.result(timeout_s=20) != holder for other in others), "they don't wait behind it"
    assert late.result(timeout_s=20) != holder
    assert len(loads(tmp_path, "m")) == 2
    (tmp_path / "late").touch()
    assert {response.result(timeout_s=20) for response in busy} == {holder}


def test_a_replica_whose_code_fails_is_left_out_when_its_peers_do_not_fail() -> None:
    handle = serve.run(Flaky.bind(), name="flaky", route_prefix=None)
    in_a_row, failures = 0, 0
    while in_a_row < 60:
        try:
            handle.remote().result(timeout_s=20)
            in_a_row += 1
        except RuntimeError:
            in_a_row = 0
            failures += 1
            assert failures < 300
    assert failures >= 5


def ask() -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    try:
        connection.request("GET", "/stuck", headers={"x-request-timeout-seconds": "0.3"})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_a_replica_that_does_not_answer_is_left_out_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    serve.run(Stuck.bind(str(tmp_path / "stuck")), name="stuck", route_prefix="/stuck")
    answers: list[tuple[int, str]] = []

    def healthy(count: int) -> bool:
        answers.append(ask())
        return [status for status, _ in answers[-count:]] == [200] * count

    wait_until(lambda: healthy(20))
    assert sum(status == 408 for status, _ in answers) >= 4
    assert len({text for _, text in answers[-20:]}) == 1
    (tmp_path / "stuck").unlink()
    wait_until(lambda: healthy(10) and len({text for _, text in answers[-10:]}) == 2)


def test_counters_return_to_zero() -> None:
    router: Any = process.runtime._router  # type: ignore[union-attr]
    for key in ("burst#Models", "full#Models", "flaky#Flaky"):
        wait_until(lambda: router.ongoing(key) == 0 and router.queued(key) == 0)  # noqa: B023
        records = [target.record for target in targets(key)]
        assert all(record is None or not record.sent_models for record in records)
