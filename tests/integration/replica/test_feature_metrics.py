"""Batched functions, models and the hook for autoscaling, counted in a real replica."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.replica.replica_process import Replica, replica, until

from eagleray import serve
from eagleray.wire.control import Empty
from eagleray.wire.scaling import LoadStats

R = ("D", "abcdefgh", "app")


class Batched:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=60.0)
    async def double(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=60.0)
    async def fail(self, numbers: list[int]) -> list[int]:
        raise ValueError("x")

    async def __call__(self, number: int) -> int:
        return await self.double(number)

    async def failing(self, number: int) -> int:
        return await self.fail(number)


class Models:
    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(self, model_id: str) -> str:
        if model_id == "none":
            raise ValueError("no such model")
        return model_id.upper()

    async def __call__(self, model_id: str) -> str:
        found: str = await self.load(model_id)
        return found


class Hooked:
    def __init__(self) -> None:
        self.asked = 0

    def record_autoscaling_stats(self) -> dict[str, float]:
        self.asked += 1
        if self.asked == 2:
            raise KeyError("x")
        return {"level": 1.0}

    def __call__(self) -> str:
        return "ok"


def series(running: Replica, prefix: str) -> dict[str, dict[tuple[str, ...], Any]]:
    """Name -> labels behind those of the replica -> value, or (number, sum) of a histogram."""
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for one in running.worker.registry.collect(everything=True):
        if one.name.startswith(prefix) and one.label_names[:3] == ("deployment", "replica", "application"):
            for sample in one.samples:
                assert sample.labels[:3] == R
                value = sample.value if sample.counts is None else (sum(sample.counts), sample.value)
                found.setdefault(one.name, {})[sample.labels[3:]] = value
    return found


def test_batches_are_counted_by_function() -> None:
    async def check() -> None:
        async with replica(Batched, max_ongoing_requests=100) as running:
            calls = [running.python("", number) for number in range(3)]
            queue = "serve_batch_queue_length"
            await until(lambda: series(running, queue).get(queue) == {("double",): 3.0})
            calls += [running.python("", 3), *(running.python("failing", 1) for _ in range(2))]
            for call in calls:
                await call.done.wait()
            await until(
                lambda: len(series(running, "serve_batches_processed")["serve_batches_processed"]) == 2
            )
            found = series(running, "serve_batch")
            assert found["serve_batches_processed"] == {("double",): 1.0, ("fail",): 1.0}
            assert found[queue] == {("double",): 0.0, ("fail",): 0.0}
            assert found["serve_batch_utilization_percent"] == {
                ("double",): (1, 100.0),
                ("fail",): (1, 100.0),
            }
            assert series(running, "serve_actual")["serve_actual_batch_size"] == {
                ("double",): (1, 4.0),
                ("fail",): (1, 2.0),
            }
            for name in ("serve_batch_wait_time_ms", "serve_batch_execution_time_ms"):
                assert {labels: count for labels, (count, _) in found[name].items()} == {
                    ("double",): 1,
                    ("fail",): 1,
                }

    asyncio.run(check())


def test_models_are_counted_by_what_became_of_them() -> None:
    async def check() -> None:
        async with replica(Models) as running:
            assert await running.value("", "a") == "A"
            assert await running.value("", "a") == "A"
            assert await running.value("", "b") == "B"
            failed = running.python("", "none")
            await failed.done.wait()
            found = series(running, "serve_") | series(running, "eagleray_multiplexed")
            assert found["serve_multiplexed_get_model_requests_counter"] == {(): 4.0}
            assert found["eagleray_multiplexed_model_hits"] == {(): 1.0}
            assert found["eagleray_multiplexed_model_misses"] == {(): 3.0}
            assert found["serve_multiplexed_models_load_counter"] == {(): 3.0}
            assert found["serve_multiplexed_models_unload_counter"] == {(): 2.0}
            assert found["serve_multiplexed_model_load_latency_ms"][()][0] == 2
            assert found["serve_multiplexed_model_unload_latency_ms"][()][0] == 2
            assert found["serve_num_multiplexed_models"] == {(): 0.0}
            assert found["serve_registered_multiplexed_model_id"] == {("a",): 0.0, ("b",): 0.0}
            await running.value("", "b")
            found = series(running, "serve_")
            assert found["serve_num_multiplexed_models"] == {(): 1.0}
            assert found["serve_registered_multiplexed_model_id"] == {("a",): 0.0, ("b",): 1.0}

    asyncio.run(check())


def test_the_hook_for_autoscaling_is_timed_and_its_failures_are_counted() -> None:
    async def check() -> None:
        async with replica(Hooked) as running:
            for _ in range(3):
                await running.control.request("autoscaling_stats", Empty(), LoadStats, timeout_s=30)
            found = series(running, "serve_")
            assert found["serve_user_autoscaling_stats_latency_ms"][()][0] == 2
            assert found["serve_record_autoscaling_stats_failed"] == {("KeyError",): 1.0}

    asyncio.run(check())
