"""`@serve.deployment`, and the values it makes: Deployment (code plus options) and Application (a bound deployment).

Both are immutable descriptions; nothing runs until `serve.run`. Options are validated here, at decoration, by
building the `DeploymentSpec`, so a wrong one is reported where it was written. Light on purpose: a module that only
declares deployments imports neither asyncio machinery nor rpc.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Literal, NoReturn, Protocol, Self, TypedDict, Unpack, cast, overload

from eagleray.base.errors import EaglerayError
from eagleray.spec.autoscaling import AutoscalingConfig, built_in_policy
from eagleray.spec.cluster import DeploymentActorConfig, GangSchedulingConfig
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.old_names import modern_options
from eagleray.spec.options import BackpressureConfig, LoggingConfig
from eagleray.spec.problems import nearest
from eagleray.spec.router import RequestRouterConfig

logger = logging.getLogger("ray.serve")

UserCallable = Callable[..., Any]


class DeploymentOptions(TypedDict, total=False):
    """Options of `@serve.deployment` and `Deployment.options`; bounds and defaults are `DeploymentSpec`'s."""

    name: str
    num_replicas: int | Literal["auto"] | None
    autoscaling_config: dict[str, Any] | AutoscalingConfig | None
    ray_actor_options: dict[str, Any] | None
    user_config: Any
    max_ongoing_requests: int
    max_concurrent_queries: int
    """Deprecated: the old name of `max_ongoing_requests`."""
    max_queued_requests: int
    backpressure_config: dict[str, Any] | BackpressureConfig | None
    graceful_shutdown_wait_loop_s: float
    graceful_shutdown_timeout_s: float
    health_check_period_s: float
    health_check_timeout_s: float
    logging_config: dict[str, Any] | LoggingConfig | None
    max_constructor_retry_count: int
    rolling_update_percentage: float
    max_surge_percent: int
    auto_rollback: bool | None
    max_requests_per_replica: int | None
    max_replica_age_s: float | None
    max_replica_rss_bytes: int | None
    request_router_config: dict[str, Any] | RequestRouterConfig | None
    version: str
    """Refused with a reason, not as a typing error."""
    # Data only: what is deployed may have none of these (`spec.cluster`).
    gang_scheduling_config: dict[str, Any] | GangSchedulingConfig | None
    deployment_actors: list[dict[str, Any] | DeploymentActorConfig] | None
    placement_group_bundles: list[dict[str, float]] | None
    placement_group_strategy: str | None
    placement_group_bundle_label_selector: list[dict[str, str]] | None
    max_replicas_per_node: int | None


class GraphBuilder(Protocol):
    """What turns Applications into handles while bound arguments are pickled; `serve.graph` has the one."""

    def child(self, application: Application) -> Any: ...


building: ContextVar[GraphBuilder | None] = ContextVar("eagleray_graph_builder", default=None)
"""Set around the pickling of bound arguments."""


class Application:
    """A deployment with its constructor arguments: pass it to `serve.run`, or bind it into another deployment."""

    __slots__ = ("args", "deployment", "kwargs")

    def __init__(self, deployment: Deployment, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.deployment = deployment
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"Application(deployment='{self.deployment.name}')"

    def __reduce__(self) -> Any:
        builder = building.get()
        if builder is None:
            raise EaglerayError(
                f"{self!r} cannot be pickled: pass it to `serve.run`, or to `bind` of another deployment, which then "
                f"gets a DeploymentHandle in its place."
            )
        return builder.child(self).__reduce__()


class Deployment:
    """A class or function with options. Made by `@serve.deployment`; never called, only bound."""

    __slots__ = ("_func_or_class", "_spec")
    _func_or_class: UserCallable
    _spec: DeploymentSpec

    def __init__(self, name: Any, /, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("A Deployment is not constructed directly: use the `@serve.deployment` decorator.")

    @classmethod
    def _make(cls, func_or_class: UserCallable, options: Mapping[str, Any]) -> Self:
        if not (inspect.isclass(func_or_class) or inspect.isfunction(func_or_class)):
            raise TypeError(
                f"@serve.deployment must be applied to a class or a function, got {type(func_or_class).__name__}."
            )
        deployment = object.__new__(cls)
        deployment._func_or_class = func_or_class
        deployment._spec = _validate({"name": func_or_class.__name__, **options})
        return deployment

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"Deployment '{self.name}' cannot be called: use `{self.name}.bind(...)` to deploy it, or its "
            f"`func_or_class` to use the plain code."
        )

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """This deployment with constructor arguments; Applications among them arrive as DeploymentHandles."""
        if (args or kwargs) and not inspect.isclass(self._func_or_class):
            raise ValueError(f"Deployment '{self.name}' is a function: no arguments can be bound to it.")
        return Application(self, args, kwargs)

    def deploy(self, *init_args: Any, _blocking: bool = True, **init_kwargs: Any) -> None:
        """Deprecated: `serve.run(D.bind(...), name=..., route_prefix=...)`, with the deployment's name for both."""
        self._legacy().deploy(self, init_args, init_kwargs, _blocking)

    def delete(self) -> None:
        """Deprecated: `serve.delete(name)`."""
        self._legacy().delete(self.name)

    def get_handle(self, sync: bool | None = None) -> Any:
        """Deprecated: `serve.get_app_handle(name)`. The handle is the same for sync and asynchronous code."""
        return self._legacy().get_deployment(self.name).get_handle(sync)

    @staticmethod
    def _legacy() -> Any:
        return import_module("eagleray.serve.legacy")  # with rpc and asyncio, which declaring does without

    def options(
        self, func_or_class: UserCallable | None = None, **options: Unpack[DeploymentOptions]
    ) -> Deployment:
        """A copy with some options changed; this one stays as it is."""
        options = _check_known(options, "options")
        given = {name: getattr(self._spec, name) for name in self._spec.given}
        # A fixed number ends autoscaling, and the other way round: the newer wish counts.
        if isinstance(options.get("num_replicas"), int) and not options.get("autoscaling_config"):
            given.pop("autoscaling_config", None)
        elif options.get("autoscaling_config") or options.get("num_replicas") == "auto":
            given.pop("num_replicas", None)
        return Deployment._make(func_or_class or self._func_or_class, {**given, **options})

    def set_logging_config(self, logging_config: dict[str, Any] | LoggingConfig) -> None:
        """Replaces the logging configuration in place; what is already running keeps its own."""
        self._spec = self.options(logging_config=logging_config)._spec

    @property
    def spec(self) -> DeploymentSpec:
        """The validated options."""
        return self._spec

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def version(self) -> None:
        """Always None: code versions are internal."""
        return None

    @property
    def func_or_class(self) -> UserCallable:
        """The decorated class or function itself."""
        return self._func_or_class

    @property
    def num_replicas(self) -> int:
        return self._spec.num_replicas

    @property
    def user_config(self) -> Any:
        return self._spec.user_config

    @property
    def max_ongoing_requests(self) -> int:
        return self._spec.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        return self._spec.max_queued_requests

    @property
    def backpressure_config(self) -> BackpressureConfig | None:
        return self._spec.backpressure_config

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """Resources of one replica that were given, and `num_cpus` in any case."""
        resources = self._spec.ray_actor_options
        return {"num_cpus": resources.num_cpus, **resources.model_dump(exclude_unset=True)}

    @property
    def logging_config(self) -> LoggingConfig | None:
        return self._spec.logging_config

    @property
    def init_args(self) -> tuple[Any, ...]:
        """Always empty: arguments belong to the Application that `bind` returns."""
        return ()

    @property
    def init_kwargs(self) -> dict[str, Any]:
        return {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return self._spec == other._spec and self._func_or_class is other._func_or_class

    def __hash__(self) -> int:
        return hash((self.name, self._func_or_class))

    def __repr__(self) -> str:
        return f"Deployment(name={self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        given = {name: getattr(self._spec, name) for name in self._spec.given}
        return Deployment._make, (self._func_or_class, given)


@overload
def deployment(_func_or_class: UserCallable, /, **options: Unpack[DeploymentOptions]) -> Deployment: ...
@overload
def deployment(
    _func_or_class: None = None, /, **options: Unpack[DeploymentOptions]
) -> Callable[[UserCallable], Deployment]: ...
def deployment(
    _func_or_class: UserCallable | None = None, /, **options: Unpack[DeploymentOptions]
) -> Deployment | Callable[[UserCallable], Deployment]:
    """Makes a class or a function a deployment: bare, with options, or as a plain call.

    Raises ValueError (pydantic.ValidationError) or TypeError for options that are wrong, TypeError for unknown ones.
    """
    options = _check_known(options, "deployment")
    if _func_or_class is not None:
        return Deployment._make(_func_or_class, options)
    _validate({"name": "unnamed", **options})
    return lambda func_or_class: Deployment._make(func_or_class, options)


_ELSEWHERE = {
    "route_prefix": ": a route belongs to the application, serve.run(app, route_prefix=...)",
    "init_args": ": arguments of the constructor are bound, D.bind(...)",
    "init_kwargs": ": arguments of the constructor are bound, D.bind(...)",
}
"""What is no option of a deployment -> where it goes instead."""


def _check_known(given: Mapping[str, Any], function: str) -> DeploymentOptions:
    options = modern_options(given)
    for name in options:
        if name not in DeploymentOptions.__annotations__:
            meant = nearest(name, DeploymentOptions.__annotations__)
            hint = f". Did you mean '{meant}'?" if meant else _ELSEWHERE.get(name, "")
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'{hint}")
    return cast(DeploymentOptions, options)


def _validate(options: dict[str, Any]) -> DeploymentSpec:
    name = options["name"]
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}.")
    resources = options.get("ray_actor_options")
    if isinstance(resources, str | bytes | list | tuple | int | float):
        raise TypeError(f"ray_actor_options must be a dict, got {type(resources).__name__}.")
    spec = DeploymentSpec.model_validate(options)
    scaling = spec.autoscaling_config
    if (
        scaling is not None
        and built_in_policy(scaling.policy.policy_function) == "default"
        and spec.max_ongoing_requests < scaling.target_ongoing_requests
    ):
        logger.warning(
            "Autoscaling will never happen: max_ongoing_requests=%d is below target_ongoing_requests=%g, so replicas "
            "are never loaded enough. Raise the one or lower the other.",
            spec.max_ongoing_requests,
            scaling.target_ongoing_requests,
        )
    return spec
