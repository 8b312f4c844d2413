"""From a graph of bound deployments to an ApplicationSpec and its blobs.

Children are found while the parent's arguments are pickled: wherever an Application stands, in whatever object, its
`__reduce__` asks the builder of the running build for a handle. So nothing has to know how users nest them, and the
argument blob holds handles only. Code travels as an import path if a replica can import it, by value if not.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from eagleray.base.errors import EaglerayError
from eagleray.serve.annotations import settle
from eagleray.serve.deployment import Application, Deployment, building
from eagleray.serve.handle import DeploymentHandle
from eagleray.serve.importable import check_import
from eagleray.serve.ingress import is_ingress
from eagleray.serve.job import inherit
from eagleray.spec.application import ApplicationSpec, BoundDeployment, CodeRef
from eagleray.spec.autoscaling import AutoscalingConfig, AutoscalingPolicy
from eagleray.spec.cluster import refuse_cluster_options
from eagleray.spec.imports import imports_of
from eagleray.spec.options import LoggingConfig
from eagleray.spec.router import BY_VALUE
from eagleray.wire import codec
from eagleray.wire.unpicklable import SerializationError, find_culprit

logger = logging.getLogger("ray.serve")

MakeVersion = Callable[[Deployment, str], str]
"""(deployment, digest of its bound arguments) -> code version; equal versions keep their replicas."""


def build_application(
    application: Application,
    *,
    name: str,
    route_prefix: str | None,
    make_version: MakeVersion,
    sys_path: list[str] | None = None,
    logging_config: LoggingConfig | None = None,
    external_scaler_enabled: bool = False,
    code: dict[str, Any] | None = None,
) -> tuple[ApplicationSpec, dict[str, bytes]]:
    """The record to deploy, and the blobs that it names, by digest.

    With `code`, classes and functions are put there by deployment name, and do not travel at all.

    Raises EaglerayError for more than one `@serve.ingress` class or an option whose import path leads nowhere, and the
    codec's error for arguments or code that cannot be pickled, naming the path to the culprit.
    """
    builder = _Builder(name, make_version, code)
    builder.child(application)
    deployments = [builder.bound[child] for child in builder.order]
    spec = ApplicationSpec(
        name=name,
        route_prefix=route_prefix,
        deployments=deployments,
        sys_path=sys_path or [],
        logging_config=logging_config,
        external_scaler_enabled=external_scaler_enabled,
    )
    return spec, builder.blobs


class _Builder:
    """One build: which Application became which deployment. The outermost one comes first and is the ingress."""

    def __init__(self, app_name: str, make_version: MakeVersion, code: dict[str, Any] | None) -> None:
        self.order: list[str] = []
        self.bound: dict[str, BoundDeployment] = {}
        self.blobs: dict[str, bytes] = {}
        self._app_name = app_name
        self._make_version = make_version
        self._code = code
        # Keyed by identity, and the Application is kept alive with it, so an id is never used twice.
        self._names: dict[int, tuple[str, Application]] = {}
        self._children: list[list[str]] = []
        self._asgi: list[str] = []

    def child(self, application: Application) -> DeploymentHandle[Any]:
        """The handle that stands for `application`, which is built the first time it is met."""
        known = self._names.get(id(application))
        if known is None:
            name = self._claim_name(application.deployment)
            self._names[id(application)] = (name, application)
            self.order.append(name)
            self.bound[name] = self._bind(name, application)
        else:
            name = known[0]
        if self._children and name not in self._children[-1]:
            self._children[-1].append(name)
        return DeploymentHandle(name, self._app_name)

    def _claim_name(self, deployment: Deployment) -> str:
        wanted = deployment.name
        name, number = wanted, 0
        while name in self.order:
            number += 1
            name = f"{wanted}_{number}"
        if number:
            logger.warning(
                "Deployment name '%s' is used more than once in application '%s'; this one is renamed to '%s'. "
                "Set distinct names with `.options(name=...)`.",
                wanted,
                self._app_name,
                name,
            )
        return name

    def _bind(self, name: str, application: Application) -> BoundDeployment:
        deployment = application.deployment
        target = deployment.func_or_class
        if is_ingress(target):
            self._asgi.append(name)
            if len(self._asgi) > 1:
                raise EaglerayError(
                    f"Found multiple @serve.ingress deployments in application '{self._app_name}': {self._asgi}. "
                    f"An application has at most one: the outermost, which gets the HTTP traffic."
                )
        ingress = not self._children
        children: list[str] = []
        init = self._pickle_arguments(application, children)
        spec = deployment.spec
        refuse_cluster_options(name, spec, spec.most_replicas)
        for kind, path in imports_of(vars(spec)):
            check_import(kind, path, name)
        router = spec.request_router_config
        if router is not None and isinstance(router.request_router_class, type):
            text = _locate_router(router.request_router_class)
            router = router.model_copy(update={"request_router_class": text})
            spec = spec.model_copy(update={"request_router_config": router})
        if spec.autoscaling_config is not None:
            update = {"autoscaling_config": _portable(spec.autoscaling_config)}
            spec = spec.model_copy(update=update)
        spec = inherit(spec)
        if spec.name != name:
            spec = spec.model_copy(update={"name": name})
        return BoundDeployment(
            spec=spec,
            code=self._locate(name, deployment),
            init=init,
            ingress=ingress,
            version=self._make_version(deployment, init),
            children=children,
            is_function=not inspect.isclass(target),
        )

    def _pickle_arguments(self, application: Application, children: list[str]) -> str:
        if not application.args and not application.kwargs:
            return ""
        self._children.append(children)
        token = building.set(self)
        try:
            return self._keep(codec.dump_code((application.args, application.kwargs)))
        except SerializationError as error:
            named = {f"argument {place}": value for place, value in enumerate(application.args)}
            named.update({f"argument '{key}'": value for key, value in application.kwargs.items()})
            reason = find_culprit(named, error.__cause__ or error)
            raise SerializationError(
                f"Deployment '{application.deployment.name}': {reason}"
            ) from error.__cause__
        finally:
            building.reset(token)
            self._children.pop()

    def _locate(self, name: str, deployment: Deployment) -> CodeRef:
        if self._code is not None:
            found = self._code[name] = deployment.func_or_class
            return CodeRef(target=f"{found.__module__}:{found.__qualname__}")
        target = import_target(deployment.func_or_class)
        if target:
            return CodeRef(target=target)
        settle(deployment.func_or_class)
        return CodeRef(code=self._keep(codec.dump_code(deployment.func_or_class)))

    def _keep(self, blob: bytes) -> str:
        digest = hashlib.sha256(blob).hexdigest()
        self.blobs[digest] = blob
        return digest


def import_target(func_or_class: Any) -> str:
    """`module:qualified.name` under which another process can import it, or "" when only its value can travel."""
    module_name, path = func_or_class.__module__, func_or_class.__qualname__
    if module_name in ("__main__", "__mp_main__") or "<" in path:
        return ""
    found: Any = sys.modules.get(module_name)
    if getattr(found, "__file__", None) is None:
        return ""  # a module made by hand, in a notebook or a test
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Deployment):
        found = found.func_or_class
    return f"{module_name}:{path}" if found is func_or_class else ""


def _locate_router(kind: type) -> str:
    """A router class as text: its import path, or itself where there is none."""
    return import_target(kind) or _by_value(kind)


def _by_value(code: Any) -> str:
    return BY_VALUE + base64.b64encode(codec.dump_code(code)).decode()


def _portable(config: AutoscalingConfig) -> AutoscalingConfig:
    """The same with its policy as text. A subclass that computes the number itself becomes the policy."""
    policy = config.policy
    if config.computes:
        policy = AutoscalingPolicy(policy_function=_by_value(config))
    elif not isinstance(policy.policy_function, str):
        found = policy.policy_function
        path = import_target(found) if hasattr(found, "__qualname__") else ""
        policy = policy.model_copy(update={"policy_function": path or _by_value(found)})
    elif type(config) is AutoscalingConfig:
        return config
    given = {name: getattr(config, name) for name in AutoscalingConfig.model_fields}
    return AutoscalingConfig.model_construct(set(given), **{**given, "policy": policy})


def user_path() -> list[str]:
    """Directories that this program imports its own modules from: `sys.path` without Python's and its packages'."""
    own = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix)}
    found = []
    for entry in sys.path:
        path = os.path.abspath(entry)
        real = os.path.realpath(path)
        if (
            os.path.isdir(path)
            and not any(real.startswith(f"{prefix}/lib") for prefix in own)
            and path not in found
        ):
            found.append(path)
    return found
