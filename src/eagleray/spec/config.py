"""The config file: `ServeDeploySchema` and what it holds, read so that all mistakes come at once.

Each option of a deployment is declared in `spec.deployment` only; here stand the levels above it. Reading has three
passes over the same data: keys that nobody knows (warnings, or errors where Ray Serve refuses them too), values (by
pydantic), and what must agree with something else in the file. Nothing of a file that has an error takes effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from eagleray.base.errors import ConfigError
from eagleray.spec.application import check_route_prefix
from eagleray.spec.autoscaling import AutoscalingConfig
from eagleray.spec.base import SpecModel, plain_json
from eagleray.spec.deployment import DeploymentSpec, ReplicaResources
from eagleray.spec.environment import RuntimeEnv
from eagleray.spec.old_names import modern_config
from eagleray.spec.options import (
    BackpressureConfig,
    ControllerOptions,
    HTTPOptions,
    LoggingConfig,
    ProxyLocation,
    TracingConfig,
    gRPCOptions,
)
from eagleray.spec.problems import (
    Path,
    Problem,
    list_unknown_keys,
    nearest,
    read_problems,
    show,
    tell,
    without,
)
from eagleray.spec.router import RequestRouterConfig

_LENIENT = ConfigDict(extra="ignore")

MAX_APPLICATIONS = 1000
"""Of a file: each is at least a process, and all of them are looked at on the controller's loop."""

_MAX_DEPTH = 100
"""Levels of mappings and lists in a file."""

NOT_OVERRIDABLE = frozenset(("max_constructor_retry_count",))
"""Options of the decorator that a config file cannot set, as in Ray Serve."""


class DeploymentSchema(DeploymentSpec):
    """Overrides of one deployment: `name`, and any option of the decorator, each of which replaces the code's whole."""

    model_config = _LENIENT


class HTTPOptionsSchema(HTTPOptions):
    """HTTP options of a config file, which bind all addresses unless they say otherwise."""

    model_config = _LENIENT
    host: str | None = "0.0.0.0"


class gRPCOptionsSchema(gRPCOptions):  # noqa: N801, RUF100 - Ray Serve's name
    """gRPC options of a config file."""

    model_config = _LENIENT


class AppAutoscalingPolicy(SpecModel):
    """A policy that decides for all deployments of an application; `policy_function` is an import path."""

    policy_function: str
    policy_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = plain_json(value, "policy_kwargs")
        return checked


class ServeApplicationSchema(SpecModel):
    """One application: where its code is, and what of it is to be otherwise."""

    model_config = _LENIENT
    name: str = Field(default="default", min_length=1)
    route_prefix: str | None = "/"
    import_path: str
    runtime_env: RuntimeEnv = Field(default_factory=RuntimeEnv)
    args: dict[str, Any] = Field(default_factory=dict)
    deployments: list[DeploymentSchema] = Field(default_factory=list)
    autoscaling_policy: AppAutoscalingPolicy | None = None
    logging_config: LoggingConfig | None = None
    external_scaler_enabled: bool = False

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if "#" in value:
            raise ValueError("must not contain '#'")
        return value

    @field_validator("args")
    @classmethod
    def _check_args(cls, value: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = plain_json(value, "args")
        return checked

    @field_validator("route_prefix")
    @classmethod
    def _check_prefix(cls, value: str | None) -> str | None:
        return check_route_prefix(value)

    @field_validator("import_path")
    @classmethod
    def _check_import_path(cls, value: str) -> str:
        return check_import_path(value)


class ServeDeploySchema(SpecModel):
    """A whole config file. `target_capacity` is a percentage that scales all replica counts."""

    model_config = _LENIENT
    proxy_location: ProxyLocation = ProxyLocation.EveryNode
    http_options: HTTPOptionsSchema = Field(default_factory=HTTPOptionsSchema)
    grpc_options: gRPCOptionsSchema = Field(default_factory=gRPCOptionsSchema)
    controller_options: ControllerOptions | None = None
    logging_config: LoggingConfig | None = None
    tracing_config: TracingConfig | None = None
    applications: list[ServeApplicationSchema]
    target_capacity: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)

    @field_validator("proxy_location", mode="before")
    @classmethod
    def _read_location(cls, value: object) -> object:
        try:
            return ProxyLocation.parse(value)
        except TypeError as error:  # pydantic reports ValueErrors only
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check_whole(self) -> ServeDeploySchema:
        problems = _disagreements(self.model_dump(mode="json", exclude_unset=True))
        if problems:
            raise ValueError("; ".join(problem.text for problem in problems))
        return self


@dataclass(frozen=True)
class Config:
    """A file that may take effect. `data` is what the user wrote, without the keys that nobody knows."""

    schema: ServeDeploySchema
    data: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def applications(self) -> dict[str, dict[str, Any]]:
        """What the user wrote of each application, by its name."""
        return {
            one.name: written
            for one, written in zip(self.schema.applications, self.data["applications"], strict=True)
        }


def parse_config(data: Any, source: str = "the config") -> tuple[ServeDeploySchema, list[str]]:
    """The schema, and one warning a line; see `read_config`."""
    config = read_config(data, source)
    return config.schema, config.warnings


def read_config(data: Any, source: str = "the config") -> Config:
    """Reads what a YAML or JSON file holds; `source` names it in messages.

    ConfigError lists every mistake in a line of its own: the place, what must be there, what is.
    """
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source} must be a mapping with the key 'applications', got {type(data).__name__}."
        )
    if "applications" not in data and "import_path" in data:
        raise ConfigError(
            f"{source} describes a single application; list it below the key 'applications' "
            f"(the format of one application to a file has ended with Ray 2.8)."
        )
    data, renamed = modern_config(data)
    unknown = list_unknown_keys(data, *_known_keys())
    problems = [one for one in unknown if one.is_error]
    plain = without(data, [one.path for one in unknown])
    schema = None
    try:
        schema = ServeDeploySchema.model_validate(plain)
    except ValidationError as error:
        problems += [one for one in read_problems(error, data, unknown) if one.path]
    except NotImplementedError as error:  # a policy of gangs that Ray has not made either
        problems.append(Problem(("applications",), str(error)))
    problems += _disagreements(plain)
    if problems or schema is None:
        lines = [f"{show(one.path)}: {one.text}" if one.path else one.text for one in problems]
        raise ConfigError(f"{source} is not valid:\n" + "\n".join(tell(lines)))
    warnings = tell(f"{show(one.path)}: {one.text}" for one in [*renamed, *unknown])
    return Config(schema, plain, [*warnings, *_doubts(schema)])


def check_depth(data: Any, source: str = "the config") -> None:
    """ConfigError for what is nested so deeply that whoever reads it later might run out of stack."""
    level = [data]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ConfigError(
        f"{source} is nested more than {_MAX_DEPTH} levels deep: pass deep values as text, or in a file."
    )


def check_import_path(path: str) -> str:
    """`module.sub:attribute` or `module.attribute`; ValueError for anything else."""
    if ":" in path:
        is_right = path.count(":") == 1 and not path.startswith(":") and not path.endswith(":")
    else:
        is_right = "." in path and not path.startswith(".") and not path.endswith(".")
    if not is_right:
        raise ValueError("must be of the form 'module:attribute' or 'module.attribute', such as 'hello:app'")
    return path


def _known_keys() -> tuple[Mapping[Path, list[str]], frozenset[Path]]:
    """Known keys by the place they stand at (`*`: any index), and the places where an unknown key is an error."""
    application = ("applications", "*")
    deployment = (*application, "deployments", "*")
    known: dict[Path, list[str]] = {
        (): list(ServeDeploySchema.model_fields),
        ("http_options",): list(HTTPOptions.model_fields),
        ("grpc_options",): list(gRPCOptions.model_fields),
        ("controller_options",): list(ControllerOptions.model_fields),
        ("logging_config",): list(LoggingConfig.model_fields),
        ("tracing_config",): list(TracingConfig.model_fields),
        # The last two are refused with a reason of their own.
        application: [*ServeApplicationSchema.model_fields, "host", "port"],
        (*application, "logging_config"): list(LoggingConfig.model_fields),
        (*application, "autoscaling_policy"): list(AppAutoscalingPolicy.model_fields),
        deployment: [*_overridable()],
        (*deployment, "ray_actor_options"): [
            *ReplicaResources.model_fields,
            "label_selector",
            "fallback_strategy",
        ],
        (*deployment, "autoscaling_config"): list(AutoscalingConfig.model_fields),
        (*deployment, "logging_config"): list(LoggingConfig.model_fields),
        (*deployment, "backpressure_config"): list(BackpressureConfig.model_fields),
        (*deployment, "request_router_config"): list(RequestRouterConfig.model_fields),
    }
    strict = (
        ("controller_options",),
        ("logging_config",),
        ("tracing_config",),
        (*application, "logging_config"),
        (*application, "autoscaling_policy"),
        (*deployment, "logging_config"),
        (*deployment, "backpressure_config"),
        (*deployment, "request_router_config"),
    )
    return known, frozenset(strict)


def _overridable() -> list[str]:
    return [name for name in DeploymentSpec.model_fields if name not in NOT_OVERRIDABLE]


# ---- what must agree ---------------------------------------------------------------------------------------------


def _disagreements(data: Mapping[str, Any]) -> list[Problem]:
    """What is right by itself and wrong beside something else. Values of a wrong type are passed over."""
    problems: list[Problem] = []
    http = data.get("http_options")
    if isinstance(http, dict) and bool(http.get("ssl_keyfile")) != bool(http.get("ssl_certfile")):
        problems.append(Problem(("http_options",), "ssl_keyfile and ssl_certfile must be given together"))
    applications = data.get("applications")
    if not isinstance(applications, list):
        return problems
    if len(applications) > MAX_APPLICATIONS:
        text = f"a file may have {MAX_APPLICATIONS} applications, got {len(applications)}"
        problems.append(Problem(("applications",), text))
    names: dict[Any, Path] = {}
    prefixes: dict[Any, Path] = {}
    for index, one in enumerate(applications):
        if not isinstance(one, dict):
            continue
        at: Path = ("applications", index)
        where = _place(one, at, "name")
        problems += _twice(names, one.get("name", "default"), where, "application name")
        prefix = one.get("route_prefix", "/")
        if prefix is not None:
            problems += _twice(prefixes, prefix, _place(one, at, "route_prefix"), "route prefix")
        for key in ("host", "port"):
            if key in one:
                text = f"an application has no {key} of its own: write it into http_options"
                problems.append(Problem((*at, key), text))
        problems += _deployment_disagreements(one, at)
    return problems


def _doubts(schema: ServeDeploySchema) -> list[str]:
    """What may be meant so, but hardly is."""
    doubts = []
    for index, application in enumerate(schema.applications):
        for number, one in enumerate(application.deployments):
            scaling = one.autoscaling_config
            if scaling is None or "max_ongoing_requests" not in one.given:
                continue
            if one.max_ongoing_requests < scaling.target_ongoing_requests:
                where = show(("applications", index, "deployments", number, "max_ongoing_requests"))
                doubts.append(
                    f"{where}: autoscaling will never happen, because {one.max_ongoing_requests} is less than "
                    f"target_ongoing_requests ({scaling.target_ongoing_requests:g})"
                )
    return doubts


def _place(one: Mapping[str, Any], at: Path, key: str) -> Path:
    """Where a value stands, or would."""
    return (*at, key) if key in one else at


def _twice(seen: dict[Any, Path], value: Any, where: Path, what: str) -> list[Problem]:
    if not isinstance(value, str):
        return []
    first = seen.setdefault(value, where)
    if first == where:
        return []
    return [Problem(where, f"{what} {value!r} is used by {show(first)} already: it must be unique")]


def _deployment_disagreements(application: Mapping[str, Any], at: Path) -> list[Problem]:
    deployments = application.get("deployments")
    if not isinstance(deployments, list):
        return []
    problems: list[Problem] = []
    names: dict[Any, Path] = {}
    for index, one in enumerate(deployments):
        if not isinstance(one, dict):
            continue
        here: Path = (*at, "deployments", index)
        if "name" in one:
            problems += _twice(names, one["name"], (*here, "name"), "deployment name")
        count = one.get("num_replicas")
        scales = one.get("autoscaling_config") is not None
        if (scales or count == "auto") and application.get("external_scaler_enabled") is True:
            key = "autoscaling_config" if scales else "num_replicas"
            text = "must not autoscale in an application with external_scaler_enabled: choose one of the two"
            problems.append(Problem((*here, key), text))
    return problems


__all__ = [
    "AppAutoscalingPolicy",
    "Config",
    "DeploymentSchema",
    "HTTPOptionsSchema",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "TracingConfig",
    "check_depth",
    "check_import_path",
    "gRPCOptionsSchema",
    "nearest",
    "parse_config",
    "read_config",
]
