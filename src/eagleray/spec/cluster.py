"""Options of deployments that need Ray itself: gangs, actors beside the replicas, placement groups, places on nodes.

They are read and checked as data, so that a program which declares them is imported, built and tested as it is. None
has an effect here: `refuse_cluster_options` says so, in one way, wherever something is about to be deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, field_serializer, field_validator, model_validator

from eagleray.base.ray_names import NeedsRayError
from eagleray.spec.base import MAX_AMOUNT, Effect, SpecModel, option

_Amount = Annotated[float, Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False)]


class GangPlacementStrategy(StrEnum):
    """Whether the replicas of a gang share a node or spread over nodes."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(StrEnum):
    """What the failure of one replica means for its gang."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


class GangSchedulingConfig(SpecModel):
    """Replicas that are created, scaled and replaced in groups. NotImplementedError for RESTART_REPLICA, as in Ray."""

    gang_size: StrictInt = Field(ge=1, le=10_000)
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    @field_validator("runtime_failure_policy")
    @classmethod
    def _check_policy(cls, value: GangRuntimeFailurePolicy) -> GangRuntimeFailurePolicy:
        if value is GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise NotImplementedError(
                "runtime_failure_policy RESTART_REPLICA is not implemented in Ray Serve either: use RESTART_GANG."
            )
        return value


class DeploymentActorConfig(SpecModel):
    """An actor that all replicas of a deployment share. `actor_class` is a class, or the import path of one."""

    name: str = Field(min_length=1)
    actor_class: Any
    init_args: tuple[Any, ...] = ()
    init_kwargs: dict[str, Any] = Field(default_factory=dict)
    actor_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("actor_class")
    @classmethod
    def _check_class(cls, value: Any) -> Any:
        if not isinstance(value, type | str) or not value:
            raise ValueError(f"actor_class must be a class or its import path, got {value!r}")
        return value

    @field_serializer("actor_class")
    def _path(self, value: Any) -> str:
        return value if isinstance(value, str) else f"{value.__module__}:{value.__qualname__}"


class ClusterOptions(SpecModel):
    """The part of a deployment that is data only. None: not given."""

    gang_scheduling_config: GangSchedulingConfig | None = option(None, Effect.RESTART)
    deployment_actors: list[DeploymentActorConfig] | None = option(None, Effect.RESTART)
    placement_group_bundles: list[dict[str, _Amount]] | None = option(None, Effect.RESTART)
    placement_group_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] | None = option(
        None, Effect.RESTART
    )
    placement_group_bundle_label_selector: list[dict[str, str]] | None = option(None, Effect.RESTART)
    max_replicas_per_node: StrictInt | None = option(None, Effect.RESTART, unit="replicas", ge=1, le=100)

    @field_validator("deployment_actors")
    @classmethod
    def _check_actors(cls, value: list[DeploymentActorConfig] | None) -> list[DeploymentActorConfig] | None:
        names = [one.name for one in value or ()]
        if len(set(names)) != len(names):
            raise ValueError(f"names of deployment_actors must be unique, got {names}")
        return value

    @field_validator("placement_group_bundles")
    @classmethod
    def _check_bundles(cls, value: list[dict[str, float]] | None) -> list[dict[str, float]] | None:
        if value is not None and (not value or not all(any(one.values()) for one in value)):
            raise ValueError(
                f"placement_group_bundles must be a list of resources such as [{{'CPU': 1}}], got {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        bundles, selector = self.placement_group_bundles, self.placement_group_bundle_label_selector
        if bundles is None:
            for name in ("placement_group_strategy", "placement_group_bundle_label_selector"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs placement_group_bundles")
        elif selector is not None and len(selector) not in (1, len(bundles)):
            raise ValueError(
                f"placement_group_bundle_label_selector must have one entry, or one for each of the "
                f"{len(bundles)} bundles, got {len(selector)}"
            )
        if self.max_replicas_per_node is not None:
            for name in ("placement_group_bundles", "gang_scheduling_config"):
                if getattr(self, name) is not None:
                    raise ValueError(f"max_replicas_per_node and {name} exclude each other")
        if self.gang_scheduling_config is not None and self.placement_group_strategy is not None:
            raise ValueError("with gang_scheduling_config the strategy is its gang_placement_strategy")
        return self


CLUSTER_OPTIONS = tuple(ClusterOptions.model_fields)


def check_first_bundle(bundles: list[dict[str, float]], needs: Mapping[str, float]) -> None:
    """ValueError when a replica that `needs` these resources does not fit into the first bundle."""
    lacking = {name: amount for name, amount in needs.items() if amount > bundles[0].get(name, 0)}
    if lacking:
        raise ValueError(
            f"a replica runs in the first of placement_group_bundles, {bundles[0]}, which lacks {lacking}"
        )


def refuse_cluster_options(deployment: str, options: ClusterOptions, most_replicas: int) -> None:
    """NeedsRayError for options that have no effect on this machine. `most_replicas` is the highest number there may be
    of the deployment: `max_replicas_per_node` does not matter below it.
    """
    per_node = options.max_replicas_per_node
    for name in CLUSTER_OPTIONS:
        if getattr(options, name) is None or (
            name == "max_replicas_per_node" and most_replicas <= (per_node or 0)
        ):
            continue
        raise NeedsRayError(
            f"Deployment '{deployment}' has {name}: {_WHY[name]}, which needs Ray itself, and the local engine runs "
            f"replicas as processes of this machine. Take the option away{_INSTEAD.get(name, '')}, or run the "
            f"application on the Ray engine; see docs/compat.md."
        )


_WHY = {
    "gang_scheduling_config": "replicas that start and restart in groups",
    "deployment_actors": "Ray actors that its replicas share",
    "placement_group_bundles": "resources reserved for Ray actors and tasks of each replica",
    "max_replicas_per_node": "further replicas would wait for other nodes",
}
_INSTEAD = {
    "deployment_actors": " (what replicas share may be a deployment of its own, called by its handle)",
    "placement_group_bundles": " (what one replica needs is ray_actor_options)",
}
