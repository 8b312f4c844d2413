"""What a replica tells its callers: models that fit into a frame, what the user's hooks return or do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from eagleray.replica.report import Reporter
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.messages import ReplicaReport, decode_report


class Recording:
    """A user's class with both hooks; the first of the statistics raises."""

    def __init__(self, stats: Any = None, metadata: Any = None) -> None:
        self.stats = stats if stats is not None else {"cost": 1}
        self.metadata = metadata if metadata is not None else {"zone": "z"}
        self.asked = 0

    async def record_routing_stats(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise SystemExit("not yet")
        return self.stats

    def record_replica_metadata(self) -> Any:
        return self.metadata


def reporter() -> tuple[Reporter, list[ReplicaReport]]:
    told: list[ReplicaReport] = []
    return Reporter(lambda data: told.append(decode_report(data))), told


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


CONFIG = {
    "request_router_config": {"request_routing_stats_period_s": 0.001, "request_routing_stats_timeout_s": 1}
}


def test_what_hooks_return_is_told_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        own, told = reporter()
        user = Recording()
        assert await own.begin(user, CONFIG) == ""
        assert told[-1].metadata == {"zone": "z"}
        await until(lambda: told[-1].routing_stats == {"cost": 1})
        count = len(told)
        await until(lambda: user.asked > 5)
        assert len(told) == count
        user.stats = {"cost": 2}
        await until(lambda: told[-1].routing_stats == {"cost": 2})
        assert told[-1].metadata == {"zone": "z"}
        await own.close()

    asyncio.run(main())
    assert caplog.text.count("record_routing_stats") == 1


@pytest.mark.parametrize("metadata", ["text", {"big": "x" * 100_000}, {"set": {1}, "object": object()}])
def test_metadata_that_cannot_be_told_fails_the_start(metadata: Any) -> None:
    async def main() -> None:
        own, _ = reporter()
        assert "record_replica_metadata" in await own.begin(Recording(metadata=metadata), {})
        await own.close()

    asyncio.run(main())


def test_instances_without_hooks_tell_nothing() -> None:
    async def main() -> None:
        own, told = reporter()
        assert await own.begin(object(), {}) == "" and not told
        await own.close()

    asyncio.run(main())


def test_more_models_than_fit_into_a_frame_leave_out_the_oldest() -> None:
    told: list[bytes] = []
    Reporter(told.append).models([f"model-{number}-{'x' * 100}" for number in range(10_000)], -1)
    assert len(told[-1]) < MAX_CHUNK
    models = decode_report(told[-1]).models
    assert models is not None and 500 < len(models) < 10_000
    assert models[-1].startswith("model-9999")
