"""Names of Ray Serve's earlier versions that articles still show. Each works, and warns of the modern form.

New code uses none of them. They are here, and not where their successors are, so that those stay as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from eagleray.base.deprecation import warn_deprecated
from eagleray.base.errors import ConfigError, EaglerayError
from eagleray.base.ids import DeploymentID
from eagleray.routing.table import RoutingTable
from eagleray.serve import api, context, instance, local
from eagleray.serve.deployment import Deployment
from eagleray.serve.handle import DeploymentHandle
from eagleray.serve.runtime import Runtime
from eagleray.spec.old_names import modern_options
from eagleray.wire.changes import ChangeDeployment
from eagleray.wire.control import Accepted


def get_deployment(name: str) -> DeployedDeployment:
    """What runs under `name`: the ingress of the application of that name, or the deployment.

    Inside a replica its own application's deployments come first. KeyError when there is none,
    RayServeException when several applications have one of that name, or nothing is running.
    """
    warn_deprecated(
        "serve.get_deployment(name) is deprecated: use serve.get_app_handle(application), or "
        "serve.get_deployment_handle(deployment, application); for new options serve.run the application again."
    )
    return DeployedDeployment(_find(name, _table()))


def list_deployments() -> dict[str, DeployedDeployment]:
    """All deployments that run, by their names; `<application>_<name>` where several applications have one of a name.

    RayServeException when nothing is running.
    """
    warn_deprecated("serve.list_deployments() is deprecated: use serve.status().applications.")
    found = [DeploymentID(one.name, one.app) for one in _table().deployments.values()]
    names = Counter(one.name for one in found)
    return {
        one.name if names[one.name] == 1 else f"{one.app_name}_{one.name}": DeployedDeployment(one)
        for one in found
    }


def deploy(deployment: Deployment, args: tuple[Any, ...], kwargs: dict[str, Any], blocking: bool) -> None:
    """An application of one deployment, with its name and the route `/<name>`."""
    warn_deprecated(
        "deployment.deploy(...) is deprecated: use serve.run(deployment.bind(...), name=..., route_prefix=...)."
    )
    name = deployment.name
    api._run(deployment.bind(*args, **kwargs), _blocking=blocking, name=name, route_prefix=f"/{name}")


def delete(name: str) -> None:
    """Deletes what `deploy` has made."""
    warn_deprecated("deployment.delete() is deprecated: use serve.delete(application).")
    api.delete(name)


def _current() -> Runtime:
    instance.running()  # which attaches to one that can be attached to
    return context.current_runtime()


def _table() -> RoutingTable:
    runtime = _current()
    if runtime.table_is_current:
        return runtime.table
    with instance.blocking(runtime) as waiting:
        return waiting.run(waiting.first_table()).result()


def _find(name: str, table: RoutingTable) -> DeploymentID:
    replica = context.current_process().replica
    if replica is not None and (own := DeploymentID(name, replica.app_name)).key in table.deployments:
        return own
    if (ingress := table.ingress.get(name)) is not None:
        return DeploymentID.parse(ingress)
    found = [DeploymentID(name, one.app) for one in table.deployments.values() if one.name == name]
    if not found:
        raise KeyError(f"There is no application and no deployment '{name}'; see `serve.status()`.")
    if len(found) > 1:
        apps = ", ".join(sorted(one.app_name for one in found))
        raise EaglerayError(
            f"Several applications have a deployment '{name}' ({apps}): say which by "
            f"serve.get_deployment_handle('{name}', app_name)."
        )
    return found[0]


class DeployedDeployment:
    """A deployment that runs, with options that `deploy` is to give it."""

    def __init__(self, deployment_id: DeploymentID, options: Mapping[str, Any] | None = None) -> None:
        self._id = deployment_id
        self._options = dict(options or {})

    @property
    def name(self) -> str:
        return self._id.name

    @property
    def app_name(self) -> str:
        return self._id.app_name

    def get_handle(self, sync: bool | None = None) -> DeploymentHandle[Any]:
        """A handle; it is the same for `sync` and for asynchronous code."""
        return DeploymentHandle(self._id.name, self._id.app_name)

    def options(self, **options: Any) -> DeployedDeployment:
        """A copy with some options changed; nothing happens before `deploy`."""
        if wrong := sorted({"func_or_class", "name"} & set(options)):
            raise ConfigError(
                f"{wrong[0]} of a deployment that runs cannot be changed: serve.run its application anew."
            )
        return DeployedDeployment(self._id, {**self._options, **modern_options(options)})

    def deploy(self) -> None:
        """Gives the running deployment its new options, and returns when it has them.

        Replicas are kept where the options allow it: another number of replicas or `user_config` restarts none.
        ValueError for options that are wrong, RayServeException for an application that comes from a config file.
        """
        if local.running() is not None:
            raise NotImplementedError(
                "In local testing mode a deployment keeps the options that it was run with."
            )
        message = ChangeDeployment(app=self.app_name, deployment=self.name, options=_as_json(self._options))
        runtime = _current()
        with instance.blocking(runtime) as waiting:
            accepted = waiting.request("change", message, Accepted).result()
        if accepted.error:
            raise ConfigError(accepted.error)
        api.wait_running(runtime, [self.app_name])

    def delete(self) -> None:
        """Deletes its application."""
        api.delete(self.app_name)

    def __repr__(self) -> str:
        return f"Deployment(name={self.name})"


def _as_json(options: Mapping[str, Any]) -> bytes:
    def plain(value: Any) -> Any:
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json", exclude_unset=True)
        raise TypeError(f"{value!r} cannot be sent")

    try:
        return json.dumps(options, default=plain).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Options of a deployment that runs must be JSON: {error}.") from None
