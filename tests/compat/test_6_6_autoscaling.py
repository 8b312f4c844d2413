"""Surface 1.10 and 6.6: bounds, load, delays, zero and policies; section 10 checks 34 and 35."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.impl import App, Instance, module, serve
from tests.compat.world import Gate
from tests.waiting import wait_until

config = module("config")

# The sampling interval has a default of 10 s and is deprecated on both, for no other reason than that.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FAST: dict[str, Any] = {
    "metrics_interval_s": 0.1,
    "look_back_period_s": 0.5,
    "upscale_delay_s": 0.2,
    "downscale_delay_s": 0.2,
}


def held(gate: Gate, **autoscaling: Any) -> Any:
    @serve.deployment(
        name="held",
        max_ongoing_requests=20,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_cpus": 0},
        autoscaling_config={**FAST, **autoscaling},
    )
    class Held:
        async def __call__(self, wait: bool = False) -> str:
            if wait:
                await gate.passed()
            return "held"

    return Held.bind()


def count(app: App) -> int:
    return int(app.status().deployments["held"].replica_states.get("RUNNING", 0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": 3, "max_replicas": 2},
        {"max_replicas": 2, "initial_replicas": 3},
        {"max_replicas": 0},
        {"min_replicas": -1},
        {"target_ongoing_requests": 0},
        {"aggregation_function": "median"},
    ],
)
def test_wrong_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        config.AutoscalingConfig(**wrong)


def test_defaults() -> None:
    default = config.AutoscalingConfig()
    assert (default.min_replicas, default.initial_replicas, default.max_replicas) == (1, None, 1)
    assert (default.upscale_delay_s, default.downscale_delay_s) == (30, 600)
    assert default.target_ongoing_requests == 2
    assert config.AutoscalingConfig.default().max_replicas == 100


def test_a_number_and_autoscaling_exclude_each_other() -> None:
    with pytest.raises(ValueError):
        serve.deployment(num_replicas=2, autoscaling_config={"max_replicas": 3})(lambda: None)


def test_replicas_follow_the_load(instance: Instance, new_gate: Callable[[], Gate]) -> None:
    gate = new_gate()
    app = instance.run(held(gate, min_replicas=1, max_replicas=3), route_prefix=None)
    responses = [app.handle.remote(True) for _ in range(6)]
    wait_until(lambda: count(app) == 3, "three replicas for six calls")
    assert app.status().status == "RUNNING"
    gate.open()
    assert {response.result(timeout_s=30) for response in responses} == {"held"}
    wait_until(lambda: count(app) == 1, "one replica without load")


def test_first_call_wakes_a_deployment_without_replicas(
    instance: Instance, new_gate: Callable[[], Gate]
) -> None:
    app = instance.run(held(new_gate(), min_replicas=0, max_replicas=2), route_prefix=None)
    assert count(app) == 0
    assert app.status().status == "RUNNING"
    assert app.call() == "held"
    wait_until(lambda: count(app) == 0, "no replica without load")


def fifty_at_the_fourth_call(ctx: Any) -> Any:
    assert ctx.deployment_name == "held" and ctx.capacity_adjusted_max_replicas == 2
    assert ctx.current_num_replicas >= 0 and ctx.total_num_requests >= 0
    calls = ctx.policy_state.get("calls", 0) + 1
    return (50 if calls > 3 else 1), {"calls": calls}


def test_policy_sees_the_deployment_keeps_its_state_and_is_held_to_the_bounds(
    instance: Instance, new_gate: Callable[[], Gate]
) -> None:
    policies = config.AutoscalingPolicy(policy_function=fifty_at_the_fourth_call)
    app = instance.run(held(new_gate(), min_replicas=1, max_replicas=2, policy=policies), route_prefix=None)
    wait_until(lambda: count(app) == 2, "no more than max_replicas")
