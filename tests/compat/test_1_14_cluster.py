"""Surface 1.14: gangs, actors of a deployment, placement groups. They are declared alike; what they do needs Ray."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compat.impl import ON_RAY, Instance, differs, exceptions, module, serve

config = module("config")


class Plain:
    def __call__(self) -> str:
        return "plain"


class Counter:
    """What an actor would be."""


if ON_RAY:
    import ray

    Counter = ray.remote(Counter)


BUNDLES = [{"CPU": 1}, {"CPU": 1}]


def test_a_gang_config() -> None:
    gang = config.GangSchedulingConfig(gang_size=4)
    assert gang.gang_size == 4
    assert gang.gang_placement_strategy == config.GangPlacementStrategy.PACK
    assert gang.runtime_failure_policy == config.GangRuntimeFailurePolicy.RESTART_GANG
    with pytest.raises(ValueError):
        config.GangSchedulingConfig(gang_size=0)
    with pytest.raises(NotImplementedError):
        config.GangSchedulingConfig(
            gang_size=2, runtime_failure_policy=config.GangRuntimeFailurePolicy.RESTART_REPLICA
        )


def test_an_actor_config() -> None:
    actor = config.DeploymentActorConfig(name="counter", actor_class=Counter, init_kwargs={"start": 1})
    assert (actor.name, actor.init_kwargs) == ("counter", {"start": 1})


@pytest.mark.parametrize(
    "options",
    [
        {"num_replicas": 4, "gang_scheduling_config": {"gang_size": 2}},
        {"deployment_actors": [{"name": "counter", "actor_class": Counter}]},
        {"placement_group_bundles": BUNDLES, "ray_actor_options": {"num_cpus": 1}},
        {"placement_group_bundles": BUNDLES, "placement_group_strategy": "SPREAD"},
        {"max_replicas_per_node": 2},
    ],
)
def test_they_are_options_of_a_deployment(options: dict[str, Any]) -> None:
    deployment = serve.deployment(**options)(Plain)
    assert deployment.options(max_ongoing_requests=2).max_ongoing_requests == 2


@pytest.mark.parametrize(
    "options",
    [
        {"num_replicas": 3, "gang_scheduling_config": {"gang_size": 2}},
        {"deployment_actors": [{"name": "counter", "actor_class": Counter}] * 2},
        {"placement_group_bundles": []},
        {"placement_group_bundles": BUNDLES, "placement_group_strategy": "NEAR"},
        {"placement_group_bundles": BUNDLES, "ray_actor_options": {"num_cpus": 2}},
        {"placement_group_bundles": BUNDLES, "max_replicas_per_node": 1},
        {"placement_group_strategy": "PACK"},
        {"max_replicas_per_node": 0},
        {"max_replicas_per_node": 101},
    ],
)
def test_what_makes_no_sense_is_refused_at_decoration(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve.deployment(**options)(Plain)


def test_outside_of_replicas_and_actors_there_is_no_actor(instance: Instance) -> None:
    with pytest.raises(exceptions.RayServeException):
        serve.get_deployment_actor("counter")
    with pytest.raises(exceptions.RayServeException):
        serve.get_deployment_actor_context()


def test_a_limit_for_each_node_that_one_node_keeps(instance: Instance) -> None:
    app = instance.run(serve.deployment(max_replicas_per_node=2, num_replicas=2)(Plain).bind())
    assert app.call() == "plain"
    serve.delete(app.name)


@differs("cluster-options-are-data")
@pytest.mark.parametrize(
    "options",
    [
        {"num_replicas": 2, "gang_scheduling_config": {"gang_size": 2}},
        {"deployment_actors": [{"name": "counter", "actor_class": Counter}]},
        {"placement_group_bundles": BUNDLES},
        {"num_replicas": 2, "max_replicas_per_node": 1},
    ],
)
def test_whoever_deploys_them_is_told_what_they_need(instance: Instance, options: dict[str, Any]) -> None:
    with pytest.raises(exceptions.RayServeException, match="or run the application on the Ray engine"):
        instance.run(serve.deployment(**options)(Plain).bind(), name="cluster")
    assert "cluster" not in serve.status().applications


@serve.deployment
class Asking:
    def __call__(self) -> Any:
        return serve.get_deployment_actor("counter")


@differs("cluster-options-are-data")
def test_a_replica_has_no_actor_and_is_told_what_does_the_same(instance: Instance) -> None:
    app = instance.run(Asking.bind())
    with pytest.raises(exceptions.RayServeException, match="a deployment of its own"):
        app.call()
