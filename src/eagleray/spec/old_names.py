"""Names that options had in earlier versions of Ray Serve: they work, and a DeprecationWarning names today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagleray.base.deprecation import warn_deprecated
from eagleray.spec.problems import Problem

OLD_TARGET, TARGET = "target_num_ongoing_requests_per_replica", "target_ongoing_requests"
OLD_QUERIES, ONGOING = "max_concurrent_queries", "max_ongoing_requests"


def modern_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a deployment under today's names. TypeError when one is given under both."""
    found = dict(options)
    if OLD_QUERIES in found:
        if ONGOING in found:
            raise TypeError(f"{OLD_QUERIES} is the old name of {ONGOING}: give one of them")
        warn_deprecated(f"{OLD_QUERIES} is deprecated: use {ONGOING}.")
        found[ONGOING] = found.pop(OLD_QUERIES)
    return found


def modern_autoscaling(config: Any) -> Any:
    """Options of autoscaling under today's names. ValueError when one is given under both."""
    if not isinstance(config, Mapping) or OLD_TARGET not in config:
        return config
    if TARGET in config:
        raise ValueError(f"{OLD_TARGET} is the old name of {TARGET}: give one of them")
    warn_deprecated(f"{OLD_TARGET} is deprecated: use {TARGET}.")
    return {(TARGET if key == OLD_TARGET else key): value for key, value in config.items()}


def without_object_store(resources: dict[str, Any]) -> dict[str, Any]:
    """`ray_actor_options` without the memory of an object store that there is not."""
    if "object_store_memory" not in resources:
        return resources
    warn_deprecated(
        "ray_actor_options['object_store_memory'] is deprecated and has no effect: the size of the memory in which "
        "values travel is EAGLERAY_SHARED_MEMORY_MB."
    )
    return {key: value for key, value in resources.items() if key != "object_store_memory"}


def without_queries(options: Any) -> Any:
    """HTTP options without a limit that the proxy never had."""
    if not isinstance(options, dict) or OLD_QUERIES not in options:
        return options
    warn_deprecated(
        f"HTTPOptions({OLD_QUERIES}=...) is deprecated and has no effect: use {ONGOING} and max_queued_requests of the "
        f"deployments."
    )
    return {key: value for key, value in options.items() if key != OLD_QUERIES}


def modern_config(data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """What a config file holds, with today's names in its deployments, and a remark for each old one."""
    remarks: list[Problem] = []

    def renamed(options: dict[str, Any], old: str, new: str, *path: str | int) -> dict[str, Any]:
        if old not in options or new in options:
            return options
        remarks.append(Problem((*path, old), f"is deprecated: use {new}", is_error=False))
        return {(new if key == old else key): value for key, value in options.items()}

    def deployment(options: Any, *path: str | int) -> Any:
        if not isinstance(options, dict):
            return options
        options = renamed(options, OLD_QUERIES, ONGOING, *path)
        scaling = options.get("autoscaling_config")
        if isinstance(scaling, dict) and OLD_TARGET in scaling:
            scaling = renamed(scaling, OLD_TARGET, TARGET, *path, "autoscaling_config")
            options = {**options, "autoscaling_config": scaling}
        return options

    def application(one: Any, number: int) -> Any:
        deployments = one.get("deployments") if isinstance(one, dict) else None
        if not isinstance(deployments, list):
            return one
        read = [
            deployment(options, "applications", number, "deployments", place)
            for place, options in enumerate(deployments)
        ]
        return {**one, "deployments": read}

    applications = data.get("applications")
    if isinstance(applications, list):
        read = [application(one, number) for number, one in enumerate(applications)]
        data = {**data, "applications": read} if remarks else data
    return data, remarks
