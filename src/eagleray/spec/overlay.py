"""What an application is when its config is laid over what its code says.

Config beats code, option by option, and each option replaces the code's whole; only runtime environments are merged.
Both sides are kept by whoever calls this, so that an override that is taken away gives the code's value back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from eagleray.base.errors import ConfigError
from eagleray.spec.application import ApplicationSpec, BoundDeployment
from eagleray.spec.cluster import refuse_cluster_options
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.problems import read_problems, show


def overlay(
    code: ApplicationSpec, config: Mapping[str, Any], logging_config: Any | None = None
) -> ApplicationSpec:
    """`config` is what the user wrote of one application; `logging_config` is that of the whole file.

    ConfigError for a deployment that the code does not have, or options that do not fit together.
    """
    overrides = {one["name"]: one for one in config.get("deployments") or []}
    names = [bound.name for bound in code.deployments]
    for name in overrides:
        if name not in names:
            raise ConfigError(f"Deployment '{name}' does not exist. Available: {names}")
    environment = config.get("runtime_env") or {}
    logging = config.get("logging_config") or logging_config
    given = code.model_dump(mode="json", exclude_unset=True)
    given |= {
        "route_prefix": config.get("route_prefix", "/"),
        "source": "declarative",
        "external_scaler_enabled": bool(config.get("external_scaler_enabled")),
        "deployments": [
            {**one, "spec": with_options(bound, overrides.get(bound.name, {}), environment)}
            for one, bound in zip(given["deployments"], code.deployments, strict=True)
        ],
    }
    if logging:
        given["logging_config"] = logging
    try:
        return _deployable(given)
    except ValidationError as error:
        told = [f"{show(one.path)}: {one.text}" for one in read_problems(error, given, ())]
        raise ConfigError("Its config does not fit its code:\n" + "\n".join(told)) from None


def with_options(
    bound: BoundDeployment, override: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of one deployment, as if the user had written them all in one place."""
    options: dict[str, Any] = bound.spec.model_dump(mode="json", exclude_unset=True)
    merged = {**options, **override}
    count = override.get("num_replicas")
    if count == "auto" and override.get("autoscaling_config") is None:
        merged["autoscaling_config"] = options.get("autoscaling_config")
    elif isinstance(count, int) and "autoscaling_config" not in override:
        # Ray Serve would go on to autoscale; whoever writes a number wants that number (docs/compat.md).
        merged.pop("autoscaling_config", None)
    elif override.get("autoscaling_config") is not None and count is None:
        merged.pop("num_replicas", None)
    if environment:
        resources = dict(merged.get("ray_actor_options") or {})
        resources["runtime_env"] = merge_environments(environment, resources.get("runtime_env") or {})
        merged["ray_actor_options"] = resources
    return {name: value for name, value in merged.items() if name in _KNOWN or value is not None}


def with_changes(code: ApplicationSpec, name: str, options: bytes) -> ApplicationSpec:
    """The application with options (JSON) laid over those of one deployment; runtime environments are merged.

    ConfigError as `overlay`.
    """
    given = code.model_dump(mode="json", exclude_unset=True)
    for one, bound in zip(given["deployments"], code.deployments, strict=True):
        if bound.name == name:
            override = json.loads(options)
            kept = bound.spec.ray_actor_options.runtime_env if "ray_actor_options" in override else None
            environment = kept.model_dump(mode="json", exclude_unset=True) if kept is not None else {}
            one["spec"] = with_options(bound, override, environment)
            break
    else:
        raise ConfigError(
            f"Deployment '{name}' does not exist. Available: {[one.name for one in code.deployments]}"
        )
    try:
        return _deployable(given)
    except ValidationError as error:
        told = [f"{show(one.path)}: {one.text}" for one in read_problems(error, given, ())]
        raise ConfigError(f"Deployment '{name}' cannot have these options:\n" + "\n".join(told)) from None


def _deployable(given: dict[str, Any]) -> ApplicationSpec:
    """ValidationError for what does not fit, NeedsRayError or ConfigError for what cannot run here."""
    try:
        spec = ApplicationSpec.model_validate(given)
    except NotImplementedError as error:
        raise ConfigError(str(error)) from None
    for one in spec.deployments:
        refuse_cluster_options(one.name, one.spec, one.spec.most_replicas)
    return spec


def merge_environments(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """`inner` wins: variable by variable in `env_vars`, key by key in all else."""
    merged = {**outer, **inner}
    variables = {**(outer.get("env_vars") or {}), **(inner.get("env_vars") or {})}
    if variables:
        merged["env_vars"] = variables
    return merged


def scaled_count(count: int, target_capacity: float | None) -> int:
    """`count` replicas at `target_capacity` percent: rounded half up, at least 1; 0 stays 0, and 0 % is none."""
    if target_capacity is None or count == 0:
        return count
    if target_capacity == 0:
        return 0
    return max(1, math.floor(count * target_capacity / 100 + 0.5))


_KNOWN = frozenset(DeploymentSpec.model_fields)
