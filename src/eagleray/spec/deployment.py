"""The one schema of a deployment: every option with its bounds, unit and effect of change.

Validation is total: whatever passes here can be deployed, and an option that this version cannot honour is refused
with its name, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from eagleray.spec.autoscaling import AutoscalingConfig, over_default
from eagleray.spec.base import MAX_AMOUNT, MAX_REPLICAS, Effect, SpecModel, option, plain_json
from eagleray.spec.cluster import CLUSTER_OPTIONS, ClusterOptions, check_first_bundle
from eagleray.spec.environment import RuntimeEnv
from eagleray.spec.old_names import without_object_store
from eagleray.spec.options import BackpressureConfig, LoggingConfig
from eagleray.spec.router import RequestRouterConfig

Amount = Annotated[float, Field(ge=0, le=MAX_AMOUNT, allow_inf_nan=False)]

_ACTOR_OPTIONS = (
    "accelerator_type",
    "memory",
    "num_cpus",
    "num_gpus",
    "resources",
    "runtime_env",
    "label_selector",
    "fallback_strategy",
)


_BUNDLED = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Resource of a replica -> its name in a placement group."""


class ReplicaResources(SpecModel):
    """What one replica occupies. GPUs, memory and custom resources are strict, CPUs are a hint on one machine."""

    num_cpus: Amount = Field(default=1.0, json_schema_extra={"unit": "cores"})
    num_gpus: Amount = Field(default=0.0, json_schema_extra={"unit": "GPUs"})
    memory: float = Field(
        default=0.0, ge=0, le=2**62, allow_inf_nan=False, json_schema_extra={"unit": "bytes"}
    )
    resources: dict[str, Amount] = Field(default_factory=dict)
    accelerator_type: str | None = None
    runtime_env: RuntimeEnv | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = without_object_store(value)
        if unknown := sorted(str(key) for key in value if key not in _ACTOR_OPTIONS):
            raise ValueError(
                f"ray_actor_options keys {unknown} are not allowed; allowed: {sorted(_ACTOR_OPTIONS)}"
            )
        for later in ("label_selector", "fallback_strategy"):
            if value.get(later):
                raise ValueError(
                    f"ray_actor_options[{later!r}] chooses nodes, which needs the Ray engine (docs/compat.md)"
                )
        dropped = ("label_selector", "fallback_strategy")
        # None means "not given", as in Ray.
        return {key: item for key, item in value.items() if item is not None and key not in dropped}

    @field_validator("num_gpus")
    @classmethod
    def _check_gpus(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(f"num_gpus above 1 must be a whole number, got {value}")
        return value

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, value: dict[str, float]) -> dict[str, float]:
        if reserved := sorted(set(value) & {"CPU", "GPU", "memory"}):
            raise ValueError(f"resources may not name {reserved}: use num_cpus, num_gpus or memory")
        return value


class DeploymentSpec(ClusterOptions):
    """A deployment as its user declared it. `model_fields_set` holds the options that were given."""

    name: str = option(..., Effect.RESTART, min_length=1)
    num_replicas: StrictInt = option(1, Effect.SCALE, unit="replicas", ge=1, le=MAX_REPLICAS)
    autoscaling_config: AutoscalingConfig | None = option(None, Effect.SCALE)
    max_ongoing_requests: StrictInt = option(5, Effect.RECONFIGURE, unit="requests", ge=1)
    max_queued_requests: StrictInt = option(-1, Effect.NONE, unit="requests", ge=-1)
    user_config: Any = option(None, Effect.RECONFIGURE)
    ray_actor_options: ReplicaResources = option(ReplicaResources(), Effect.RESTART)
    backpressure_config: BackpressureConfig | None = option(None, Effect.NONE)
    graceful_shutdown_wait_loop_s: float = option(
        2.0, Effect.RECONFIGURE, unit="s", ge=0, allow_inf_nan=False
    )
    graceful_shutdown_timeout_s: float = option(20.0, Effect.NONE, unit="s", ge=0, allow_inf_nan=False)
    health_check_period_s: float = option(10.0, Effect.NONE, unit="s", gt=0, allow_inf_nan=False)
    health_check_timeout_s: float = option(30.0, Effect.NONE, unit="s", gt=0, allow_inf_nan=False)
    logging_config: LoggingConfig | None = option(None, Effect.RECONFIGURE)
    request_router_config: RequestRouterConfig | None = option(None, Effect.NONE)
    max_constructor_retry_count: StrictInt = option(20, Effect.NONE, unit="attempts", ge=1)
    rolling_update_percentage: float = option(0.2, Effect.NONE, unit="fraction", gt=0, le=1)
    max_surge_percent: StrictInt = option(0, Effect.NONE, unit="percent", ge=0, le=100)
    auto_rollback: StrictBool | None = option(None, Effect.NONE)
    max_requests_per_replica: StrictInt | None = option(None, Effect.RESTART, unit="requests", ge=1)
    max_replica_age_s: float | None = option(None, Effect.NONE, unit="s", gt=0, allow_inf_nan=False)
    max_replica_rss_bytes: StrictInt | None = option(None, Effect.NONE, unit="bytes", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _read_whole(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("version") is not None:
            raise ValueError("version cannot be set: code versions are internal")
        value = _read_count(value)
        # None for these means "the default", as in Ray; for the other options None is refused by their types.
        silent = {"version", *(name for name in CLUSTER_OPTIONS if value.get(name) is None)}
        if value.get("num_replicas", 1) is None:
            silent.add("num_replicas")
        if value.get("ray_actor_options", 1) is None:
            silent.add("ray_actor_options")
        return {key: item for key, item in value.items() if key not in silent}

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if "#" in value:
            raise ValueError(f"deployment name {value!r} may not contain '#'")
        return value

    @field_validator("max_queued_requests")
    @classmethod
    def _check_queue(cls, value: int) -> int:
        if value == 0:
            raise ValueError("max_queued_requests must be -1 (no limit) or at least 1")
        return value

    @field_validator("user_config")
    @classmethod
    def _check_user_config(cls, value: Any) -> Any:
        return plain_json(value, "user_config")

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if self.placement_group_bundles is not None:
            given = self.ray_actor_options.model_dump(exclude_unset=True)
            needs = {name: given[key] for key, name in _BUNDLED.items() if key in given}
            check_first_bundle(self.placement_group_bundles, {**needs, **given.get("resources", {})})
        gang = self.gang_scheduling_config
        if gang is not None and self.autoscaling_config is None and self.num_replicas % gang.gang_size:
            raise ValueError(
                f"num_replicas ({self.num_replicas}) must be a multiple of gang_size ({gang.gang_size})"
            )
        return self

    @property
    def most_replicas(self) -> int:
        """The highest number of replicas that it may have."""
        scaling = self.autoscaling_config
        return self.num_replicas if scaling is None else scaling.max_replicas

    @property
    def given(self) -> frozenset[str]:
        """Names of the options that the user set, as opposed to defaults."""
        return frozenset(self.model_fields_set)


def _read_count(value: dict[str, Any]) -> dict[str, Any]:
    """Either a fixed number of replicas or autoscaling; "auto" is the latter with other defaults."""
    count, scaling = value.get("num_replicas"), value.get("autoscaling_config")
    if count == "auto":
        rest = {key: item for key, item in value.items() if key != "num_replicas"}
        return {**rest, "autoscaling_config": over_default(scaling)}
    if count is not None and scaling is not None:
        raise ValueError(
            "num_replicas and autoscaling_config exclude each other: give a fixed number or the bounds of autoscaling"
        )
    return value
