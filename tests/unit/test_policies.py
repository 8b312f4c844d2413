"""Policies as text: found, constructed once, held to numbers; that of an application speaks for several deployments."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from typing import Any

import pytest

from eagleray.base.errors import ConfigError
from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.policies import Policies, context_of, load_policy
from eagleray.serve.autoscaling_policy import AutoscalingContext
from eagleray.spec.router import BY_VALUE
from eagleray.wire import codec
from eagleray.wire.scaling import PolicyAnswer, PolicyQuestion

DEFAULT = "eagleray.serve.autoscaling_policy:default_autoscaling_policy"


def told(**given: Any) -> dict[str, Any]:
    return {
        "current_num_replicas": 2,
        "target_num_replicas": 2,
        "running_replicas": ["aaaaaaaa"],
        "total_num_requests": 8.0,
        "total_queued_requests": 3.0,
        "total_running_requests": 5.0,
        "raw_metrics": {"level": {"aaaaaaaa": [[1.0, 2.0]]}},
        "aggregated_metrics": {"level": {"aaaaaaaa": 2.0}},
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 9,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": 1.0,
        "config": {"max_replicas": 9, "target_ongoing_requests": 4.0},
        **given,
    }


def ask(policy: Any, *keys: str, policies: Policies | None = None, **given: Any) -> PolicyAnswer:
    text = (
        policy if isinstance(policy, str) else BY_VALUE + base64.b64encode(codec.dump_code(policy)).decode()
    )
    contexts = {key: json.dumps(told()).encode() for key in keys or ("app#model",)}
    question = PolicyQuestion(policy=text, contexts=contexts, **given)
    return (policies or Policies()).decide(question)


def test_context_has_the_familiar_types() -> None:
    context = context_of("app#model", told())
    replica = ReplicaID("aaaaaaaa", DeploymentID("model", "app"))
    assert context.running_replicas == [replica]
    assert context.raw_metrics == {"level": {replica: [(1.0, 2.0)]}}
    assert (context.app_name, context.deployment_name, context.config.max_replicas) == ("app", "model", 9)


def test_default_policy_is_load_over_target() -> None:
    answer = ask(DEFAULT)
    assert answer == PolicyAnswer(counts={"app#model": 2.0}, states={"app#model": b"{}"})
    assert ask(DEFAULT.replace(":", ".")).counts == answer.counts


def test_class_is_constructed_once_for_each_deployment() -> None:
    class Counting:
        def __init__(self, step: int) -> None:
            self.count, self.step = 0, step

        def __call__(self, context: AutoscalingContext) -> float:
            self.count += self.step
            return self.count

    policies = Policies()
    text = BY_VALUE + base64.b64encode(codec.dump_code(Counting)).decode()
    for expected in (2.0, 4.0):
        answer = ask(text, "app#a", "app#b", policies=policies, kwargs='{"step": 2}')
        assert answer.counts == {"app#a": expected, "app#b": expected}


def test_policy_of_an_application_may_leave_deployments_out() -> None:
    def policy(contexts: dict[DeploymentID, AutoscalingContext]) -> Any:
        name = DeploymentID("a", "app")
        return {name: 3}, {name: {"seen": len(contexts)}}

    answer = ask(policy, "app#a", "app#b", is_app_level=True)
    assert answer.counts == {"app#a": 3.0}
    assert answer.states == {"app#a": b'{"seen": 2}'}


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "3", None, True])
def test_anything_but_a_number_is_refused(wrong: Any) -> None:
    assert "must give a number" in ask(lambda context: wrong).error


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="not callable"):
        load_policy("eagleray.policies:BY_VALUE", {})
    assert "ModuleNotFoundError" in ask("no_such_module:policy").error


def test_number_may_be_any_real_one() -> None:
    assert ask(lambda context: Fraction(5, 2)).counts == {"app#model": 2.5}


def test_long_traceback_is_shortened_in_its_middle() -> None:
    def raises(context: AutoscalingContext) -> float:
        raise ValueError("x" * 1_000_000 + "end")

    error = ask(raises).error
    assert error.startswith("Traceback") and error.endswith("end\n") and len(error) < 40_000
