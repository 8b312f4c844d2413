"""What `serve.run` is given, checked and made into what is deployed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from eagleray.base.errors import EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.serve.deployment import Application
from eagleray.serve.graph import build_application, user_path
from eagleray.spec.application import ApplicationSpec, check_route_prefix
from eagleray.spec.options import LoggingConfig


class _DefaultPrefix(str):
    """A prefix that nobody has written."""


DEFAULT_PREFIX: Final = _DefaultPrefix("/")
"""Told apart by identity from the `/` that somebody has."""


@dataclass(frozen=True)
class RunTarget:
    """One application for `run_many`."""

    target: Application
    name: str = "default"
    route_prefix: str | None = DEFAULT_PREFIX
    logging_config: dict[str, Any] | LoggingConfig | None = None
    external_scaler_enabled: bool = False


def build_targets(
    targets: Sequence[RunTarget],
    default: LoggingConfig | None = None,
    code: dict[str, dict[str, Any]] | None = None,
) -> tuple[list[ApplicationSpec], dict[str, bytes]]:
    """What `serve.run_many` deploys. `default` is for applications without a logging configuration.

    With `code` (application -> deployment -> class or function) code is put there and does not travel.
    """
    specs, blobs = [], {}
    version = new_unique_id()
    for one in targets:
        if not isinstance(one, RunTarget):
            raise TypeError(f"`serve.run_many` takes RunTargets, got {describe(one)}.")
        if not one.name:
            raise EaglerayError("The name of an application may not be empty.")
        if not isinstance(one.target, Application):
            raise TypeError(
                f"`serve.run` takes an Application, as `Deployment.bind()` returns it, got {describe(one.target)}."
            )
        spec, more = build_application(
            one.target,
            name=one.name,
            route_prefix=check_route_prefix(one.route_prefix),
            make_version=lambda _deployment, _init: version,
            sys_path=user_path(),
            logging_config=read_logging(one.logging_config) or default,
            external_scaler_enabled=one.external_scaler_enabled,
            code=None if code is None else code.setdefault(one.name, {}),
        )
        specs.append(spec)
        blobs.update(more)
    return specs, blobs


def read_logging(config: dict[str, Any] | LoggingConfig | None) -> LoggingConfig | None:
    """A logging configuration that may be given as a dict."""
    return (
        config
        if config is None or isinstance(config, LoggingConfig)
        else LoggingConfig.model_validate(config)
    )


def describe(target: Any) -> str:
    """What a user has given in place of something else."""
    kind = f"class '{target.__name__}'" if inspect.isclass(target) else type(target).__name__
    hint = "; did you forget `.bind()`?" if kind == "Deployment" else ""
    return f"{kind}{hint}"
