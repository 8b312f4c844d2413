"""Policies of users decide in a process of their own: what they see, and that a bad one harms nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve import instance
from eagleray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from eagleray.wire.control import Accepted, ApplyConfig, Empty, JsonReply

FAST: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "look_back_period_s": 0.5,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
}


@serve.deployment
class Model:
    def __init__(self, level: float = 3.0) -> None:
        self.level = level

    async def __call__(self) -> str:
        return "here"

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {"level": self.level}


@pytest.fixture(autouse=True)
def running() -> Iterator[None]:
    serve.start(http_options={"port": free_port()})
    yield
    serve.shutdown()


def deploy(policy: Any, name: str = "default", **config: Any) -> Any:
    given = {**FAST, "policy": AutoscalingPolicy(policy_function=policy), **config}
    deployment = Model.options(autoscaling_config=AutoscalingConfig(**given))
    return serve.run(deployment.bind(), name=name, route_prefix=None)


def count(name: str = "default") -> int:
    return serve.status().applications[name].deployments["Model"].replica_states.get("RUNNING", 0)


def detail(name: str = "default", deployment: str = "Model") -> dict[str, Any]:
    here = instance.running()
    assert here is not None
    reply = here.runtime.request("details", Empty(), JsonReply).result(timeout=30)
    found = json.loads(reply.body)["applications"][name]["deployments"][deployment]["autoscaling_detail"]
    assert isinstance(found, dict)
    return found


def by_level(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    levels = context.aggregated_metrics.get("level", {})
    assert set(levels) <= set(context.running_replicas)
    calls = context.policy_state.get("calls", 0) + 1
    return (max(levels.values(), default=1.0) if calls > 2 else 1.0), {"calls": calls}


def raises(context: AutoscalingContext) -> float:
    raise RuntimeError("no idea how many")


def hangs(context: AutoscalingContext) -> float:
    time.sleep(3600)
    return 4.0


class Doubled:
    def __call__(self, context: AutoscalingContext) -> float:
        return 2 * context.capacity_adjusted_min_replicas


class ByHand(AutoscalingConfig):
    """Computes itself, with what its constructor has set."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.weight = 2

    def calculate_target_replicas(
        self,
        current_replicas: int,
        current_qps: float,
        avg_latency_ms: float,
        cpu_utilization: float,
        queue_length: int,
    ) -> int:
        assert current_qps >= 0 and avg_latency_ms >= 0 and cpu_utilization >= 0 and queue_length == 0
        return 1 + self.weight


def test_function_sees_the_replicas_statistics_and_its_own_state() -> None:
    deploy(by_level)
    wait_until(lambda: count() == 3, "as many replicas as the level says")
    found = detail()
    assert {"scaling_status", "decisions", "metrics", "metrics_health", "errors"} <= set(found)
    assert (found["scaling_status"], found["errors"]) == ("STABLE", [])
    assert found["metrics_health"] in ("healthy", "unavailable")  # nobody calls it
    decisions = found["decisions"]
    assert {"timestamp_s", "reason", "prev_num_replicas", "curr_num_replicas", "policy"} <= set(decisions[-1])
    assert (decisions[-1]["curr_num_replicas"], decisions[-1]["policy"]) == (3, "custom")


def test_class_is_a_policy() -> None:
    deploy(Doubled)
    wait_until(lambda: count() == 2, "two replicas")


def test_subclass_of_the_config_computes_the_number() -> None:
    serve.run(Model.options(autoscaling_config=ByHand(**FAST)).bind(), route_prefix=None)
    wait_until(lambda: count() == 3, "three replicas")


def test_policy_that_raises_changes_nothing() -> None:
    handle = deploy(raises)
    wait_until(lambda: detail()["errors"], "its traceback")
    assert "no idea how many" in detail()["errors"][0]
    assert count() == 1
    assert serve.status().applications["default"].status == "RUNNING"
    assert handle.remote().result(timeout_s=30) == "here"


def test_policy_that_hangs_is_ended_and_harms_nobody() -> None:
    deploy(hangs, "stuck")
    deploy(Doubled, "sound")
    wait_until(lambda: count("sound") == 2, "two replicas")
    wait_until(lambda: detail("stuck")["errors"], "its time-out")
    assert count("stuck") == 1
    assert serve.status().applications["stuck"].status == "RUNNING"


@serve.deployment
class Front:
    def __init__(self, model: Any) -> None:
        self.model = model

    async def __call__(self) -> str:
        return "front"


def test_policy_that_hangs_does_not_keep_those_of_its_application_from_being_asked() -> None:
    model = Model.options(
        autoscaling_config=AutoscalingConfig(**FAST, policy=AutoscalingPolicy(policy_function=Doubled))
    )
    front = Front.options(
        name="AFront",
        autoscaling_config=AutoscalingConfig(**FAST, policy=AutoscalingPolicy(policy_function=hangs)),
    )
    serve.run(front.bind(model.bind()), route_prefix=None)
    wait_until(lambda: count() == 2, "two replicas of the other one")
    wait_until(lambda: detail("default", "AFront")["errors"], "its time-out")
    assert not detail()["errors"]


def test_what_a_policy_asks_for_is_held_within_the_bounds() -> None:
    deploy(Doubled, min_replicas=3)
    wait_until(lambda: count() == 4, "no more than max_replicas")


PROGRAM = """
from eagleray import serve
from eagleray.serve.config import AutoscalingContext


@serve.deployment(autoscaling_config={"max_replicas": 4, "upscale_delay_s": 0, "look_back_period_s": 0.5})
class Model:
    async def __call__(self):
        return "here"


def policy(contexts):
    assert all(isinstance(context, AutoscalingContext) for context in contexts.values())
    return {name: 3 for name in contexts}


app = Model.bind()
"""


def test_policy_of_an_application_from_a_config_file(tmp_path: Path) -> None:
    name = f"scaled_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    application = {
        "name": "whole",
        "import_path": f"{name}:app",
        "autoscaling_policy": {"policy_function": f"{name}.policy"},
    }
    here = instance.running()
    assert here is not None
    message = ApplyConfig(
        config=json.dumps({"applications": [application]}).encode(), sys_path=[str(tmp_path)]
    )
    accepted = here.runtime.request("apply_config", message, Accepted).result(timeout=30)
    assert not accepted.error
    wait_until(lambda: "whole" in serve.status().applications and has_model(), "the build")
    wait_until(lambda: count("whole") == 3, "three replicas")
    assert detail("whole")["decisions"][-1]["policy"] == "app"


def has_model() -> bool:
    return "Model" in serve.status().applications["whole"].deployments
