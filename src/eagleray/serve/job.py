"""What the applications of this program share: the environment that their deployments inherit, and `init`'s resources.

Ray calls a program a job, and its deployments inherit the job's `runtime_env`. Whether the program says `ray` for
Eagleray belongs to it: a replica that imports its modules must say the same, on whatever instance it runs, after
whatever restart, so it travels with each deployment as an environment variable. Process-wide, like `serve.run`.
"""

from __future__ import annotations

from typing import Any

from eagleray.base import ray_names
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.overlay import merge_environments


class Job:
    """The one of this process. `resources` are options of the instance that it may yet start."""

    __slots__ = ("environment", "is_initialized", "resources")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """As before `init`."""
        self.is_initialized = False
        self.environment: dict[str, Any] = {}
        self.resources: dict[str, Any] = {}


job = Job()


def inherit(spec: DeploymentSpec) -> DeploymentSpec:
    """The spec with the environment of this job under its own."""
    outer = job.environment
    if ray_names.is_installed():
        outer = merge_environments({"env_vars": {ray_names.VARIABLE: "1"}}, outer)
    if not outer:
        return spec
    given = spec.model_dump(exclude_unset=True, include={"ray_actor_options"}).get("ray_actor_options", {})
    given["runtime_env"] = merge_environments(outer, given.get("runtime_env") or {})
    update = type(spec.ray_actor_options).model_validate(given)
    return spec.model_copy(update={"ray_actor_options": update})
