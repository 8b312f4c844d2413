"""How many replicas a deployment has when its load decides: bounds, target, delays, and the policy that computes.

Names and defaults are Ray Serve's. A policy travels as text: its import path where it has one, else its pickle, which
only the process that runs policies reads.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from eagleray.base.deprecation import warn_deprecated
from eagleray.spec.base import MAX_REPLICAS, SpecModel, plain_json
from eagleray.spec.old_names import modern_autoscaling
from eagleray.spec.router import BY_VALUE

DEFAULT_POLICY = "eagleray.serve.autoscaling_policy:default_autoscaling_policy"
BUILT_IN_POLICIES = {
    "default_autoscaling_policy": "default",
    "replica_queue_length_autoscaling_policy": "default",
    "LatencyTargetPolicy": "latency",
}
"""Names of policies that are ours, wherever Ray Serve or we define them."""

_QUEUE_POLICY = "eagleray.serve.async_inference_autoscaling_policy:AsyncInferenceAutoscalingPolicy"
"""Ours, too, but it asks a broker: it runs where those of users do."""

_OLD_FACTORS = {
    "smoothing_factor": "upscaling_factor and downscaling_factor",
    "upscale_smoothing_factor": "upscaling_factor",
    "downscale_smoothing_factor": "downscaling_factor",
}
"""Deprecated name -> today's."""

_DEFAULT_INTERVAL_S = 10.0


def built_in_policy(path: Any) -> str:
    """The kind of a policy of ours, given by path or itself; "" for one of the user's."""
    if not isinstance(path, str):
        path = f"{getattr(path, '__module__', '')}:{getattr(path, '__qualname__', '')}"
    module, _, name = path.rpartition(":")
    is_ours = not module or module.startswith(("ray.serve.", "eagleray."))
    return BUILT_IN_POLICIES.get(name, "") if is_ours else ""


class AggregationFunction(StrEnum):
    """What is made of the load in the look-back period: its time-weighted mean, its peak or its lowest."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class AutoscalingPolicy(SpecModel):
    """Who computes the number of replicas: an import path `module:name`, or a function or class itself.

    `policy_kwargs` are for a class's constructor; they must be JSON.
    """

    policy_function: Any = DEFAULT_POLICY
    policy_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy_function")
    @classmethod
    def _check_function(cls, value: Any) -> Any:
        if not isinstance(value, str):
            if not callable(value):
                raise ValueError(f"policy_function must be callable or its import path, got {value!r}")
            return value
        if not value:
            raise ValueError("policy_function must not be empty")
        if value.startswith(BY_VALUE):
            return value
        if ":" not in value and "." in value:
            module, _, name = value.rpartition(".")
            value = f"{module}:{name}"
        if value.startswith("ray.") and value.endswith(f":{_QUEUE_POLICY.partition(':')[2]}"):
            return _QUEUE_POLICY
        if value.startswith("ray.") and not built_in_policy(value):
            raise ValueError(
                f"{value} is a policy of Ray Serve that does not exist here; there are: "
                f"{', '.join(BUILT_IN_POLICIES)}, AsyncInferenceAutoscalingPolicy"
            )
        return value

    @field_validator("policy_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = plain_json(value, "policy_kwargs")
        return plain

    @model_validator(mode="after")
    def _check_latency(self) -> Self:
        if built_in_policy(self.policy_function) == "latency":
            target = self.policy_kwargs.get("p95_ms")
            is_time = (
                isinstance(target, int | float) and not isinstance(target, bool) and 0 < target < math.inf
            )
            if set(self.policy_kwargs) != {"p95_ms"} or not is_time:
                raise ValueError("LatencyTargetPolicy takes policy_kwargs={'p95_ms': milliseconds above 0}")
        return self


class AutoscalingConfig(SpecModel):
    """Bounds and pace of autoscaling; all times are in seconds.

    A subclass may compute the number itself, in a method `calculate_target_replicas(current_replicas, current_qps,
    avg_latency_ms, cpu_utilization, queue_length)`.
    """

    min_replicas: int = Field(default=1, ge=0)
    initial_replicas: int | None = Field(default=None, ge=0)
    max_replicas: int = Field(default=1, ge=1, le=MAX_REPLICAS)
    target_ongoing_requests: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    metrics_interval_s: float = Field(default=_DEFAULT_INTERVAL_S, gt=0, allow_inf_nan=False)
    look_back_period_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    smoothing_factor: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    upscale_smoothing_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    downscale_smoothing_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    upscaling_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    downscaling_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    upscale_delay_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    downscale_delay_s: float = Field(default=600.0, ge=0, allow_inf_nan=False)
    downscale_to_zero_delay_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    aggregation_function: AggregationFunction = AggregationFunction.MEAN
    policy: AutoscalingPolicy = AutoscalingPolicy()

    def __setattr__(self, name: str, value: Any) -> None:
        """A subclass may keep what it computes with; the options themselves are fixed."""
        if type(self) is AutoscalingConfig or name in type(self).model_fields:
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, value)

    @classmethod
    def default(cls) -> Self:
        """What `num_replicas="auto"` means."""
        return cls(min_replicas=1, max_replicas=100, target_ongoing_requests=2.0)

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, value: object) -> object:
        return modern_autoscaling(value)

    @field_validator("aggregation_function", mode="before")
    @classmethod
    def _read_aggregation(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("metrics_interval_s")
    @classmethod
    def _deprecate_interval(cls, value: float) -> float:
        if value != _DEFAULT_INTERVAL_S:
            warnings.warn(
                "metrics_interval_s is deprecated: load is sampled five times in look_back_period_s at least.",
                DeprecationWarning,
                stacklevel=2,
            )
        return value

    @field_validator(*_OLD_FACTORS)
    @classmethod
    def _deprecate_factors(cls, value: Any, info: ValidationInfo) -> Any:
        if info.mode == "python":  # whoever reads it from the wire has not written it
            modern = _OLD_FACTORS[info.field_name or ""]
            warn_deprecated(f"{info.field_name} is deprecated: use {modern}.")
        return value

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        low, high, initial = self.min_replicas, self.max_replicas, self.initial_replicas
        if high < low:
            raise ValueError(f"max_replicas ({high}) must be at least min_replicas ({low})")
        if initial is not None and not low <= initial <= high:
            raise ValueError(
                f"initial_replicas ({initial}) must lie between min_replicas ({low}) and max_replicas ({high})"
            )
        return self

    @property
    def up_factor(self) -> float:
        """Gain of an increase."""
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    @property
    def down_factor(self) -> float:
        """Gain of a decrease."""
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    @property
    def sample_interval_s(self) -> float:
        """How often routers tell their load."""
        return max(min(0.2 * self.look_back_period_s, self.metrics_interval_s), 0.05)

    @property
    def computes(self) -> bool:
        """Whether it is a subclass that computes the number itself."""
        return callable(getattr(self, "calculate_target_replicas", None))


def over_default(given: object) -> AutoscalingConfig | dict[str, Any]:
    """What `num_replicas="auto"` means, yet to be checked: the defaults of "auto" under what was given."""
    if given is None:
        return AutoscalingConfig.default()
    fields = {"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 2.0}
    if isinstance(given, Mapping):
        return {**fields, **modern_autoscaling(given)}
    config = given if isinstance(given, AutoscalingConfig) else AutoscalingConfig.model_validate(given)
    missing = {name: value for name, value in fields.items() if name not in config.model_fields_set}
    if not missing:
        return config
    kept = {name: getattr(config, name) for name in config.model_fields_set}
    return type(config).model_validate({**missing, **kept})
