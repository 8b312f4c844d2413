"""Checks what users want to deploy against the world as it is; what passes is admitted, what does not has no effect."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import ConfigError, NotFoundError, NotRunningError, PreconditionError
from eagleray.base.ray_names import NeedsRayError
from eagleray.controller.controller import Admission, Prepare
from eagleray.reconcile import events as e
from eagleray.reconcile.world import World
from eagleray.spec.application import ApplicationSpec, check_route_prefix
from eagleray.spec.overlay import overlay, with_changes
from eagleray.wire.changes import ChangeDeployment
from eagleray.wire.control import Built, Deploy, DeployImport


def admit_deploy(message: Deploy) -> Prepare:
    """All applications of the message or none."""

    def prepare(world: World) -> Admission:
        specs = [_parse(data) for data in message.specs]
        check_open(world)
        if len({spec.name for spec in specs}) != len(specs):
            raise ConfigError(f"Application names must be unique, got {[spec.name for spec in specs]}.")
        check_prefixes(world, {spec.name: spec.route_prefix for spec in specs})
        _check_blobs(world, specs, message.blobs)
        at = wall_time_s()
        texts = [data.decode() for data in message.specs]
        events: list[e.Event] = [
            e.Deployed(spec.name, text, at) for spec, text in zip(specs, texts, strict=True)
        ]
        return Admission(events, message.blobs)

    return prepare


def admit_import(message: DeployImport) -> Prepare:
    """The build comes later; what can be refused without it is refused now."""

    def prepare(world: World) -> Admission:
        check_open(world)
        if not message.name or "#" in message.name:
            raise ConfigError(f"Application name {message.name!r} must not be empty or contain '#'.")
        try:
            check_route_prefix(message.route_prefix)
            arguments = json.dumps(message.args)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from None
        check_prefixes(world, {message.name: message.route_prefix})
        request = e.BuildRequest(
            import_path=message.import_path,
            args=arguments,
            route_prefix=message.route_prefix,
            sys_path=tuple(message.sys_path),
            reload=message.reload,
            runtime_env=json.dumps({"env_vars": message.env_vars}) if message.env_vars else "",
        )
        return Admission([e.ImportRequested(message.name, request, wall_time_s())])

    return prepare


def admit_change(message: ChangeDeployment) -> Prepare:
    """Other options of one deployment; code and bound arguments stay, so that only what has changed is done."""

    def prepare(world: World) -> Admission:
        check_open(world)
        row = world.applications.get(message.app)
        if row is None or row.deleting or not row.spec:
            raise NotFoundError(f"Application '{message.app}' does not run.")
        if row.config:
            raise PreconditionError(
                f"Application '{message.app}' comes from a config file: change its deployment '{message.deployment}' "
                f"there, and deploy the file again."
            )
        spec = with_changes(ApplicationSpec.from_json(row.spec.encode()), message.deployment, message.options)
        return Admission([e.Deployed(message.app, spec.to_json().decode(), wall_time_s())])

    return prepare


def admit_built(app: str, generation: int, built: Built) -> Prepare:
    """A build that was overtaken, by a deploy or a delete, is dropped silently."""

    def prepare(world: World) -> Admission:
        row = world.applications.get(app)
        if row is None or row.deleting or row.generation != generation:
            return Admission([])
        spec = _parse(built.spec)
        if spec.name != app:
            raise ConfigError(f"The builder of application '{app}' has built '{spec.name}'.")
        _check_blobs(world, [spec], built.blobs)
        if not row.config:
            check_prefixes(world, {app: spec.route_prefix})
            return Admission([e.Built(app, generation, built.spec.decode())], built.blobs)
        text, error = lay_over(spec, row.config, world.declared.get("logging_config"))
        event = e.Built(app, generation, text, code_spec=built.spec.decode(), error=error)
        return Admission([event], built.blobs)

    return prepare


def lay_over(code: ApplicationSpec, config: str, logging_config: Any) -> tuple[str, str]:
    """The spec with the config laid over it, as JSON; or "" and why they do not fit together."""
    try:
        return overlay(code, json.loads(config), logging_config).to_json().decode(), ""
    except (ConfigError, NeedsRayError) as error:
        return "", str(error)


def _parse(data: bytes) -> ApplicationSpec:
    try:
        return ApplicationSpec.from_json(data)
    except ValidationError as error:
        raise ConfigError(f"The application cannot be deployed: {error}") from None


def check_open(world: World) -> None:
    """NotRunningError once the instance is shutting down."""
    if world.is_closing or world.is_leaving:
        raise NotRunningError("Eagleray is shutting down: nothing can be deployed.")


def check_prefixes(world: World, wanted: Mapping[str, str | None], going: Container[str] = ()) -> None:
    """ConfigError when an application that is neither among `wanted` nor `going` has one of the prefixes."""
    taken: dict[str, str] = {}
    for name, row in world.applications.items():
        if name in wanted or name in going or row.deleting:
            continue
        if row.build is not None and row.build.route_prefix is not None:
            taken[row.build.route_prefix] = name
        for key in world.deployments_of(name):
            target = world.deployments[key].target
            if target is not None and target.config.route_prefix is not None:
                taken[target.config.route_prefix] = name
    for name, prefix in wanted.items():
        if prefix is None:
            continue
        if prefix in taken:
            raise ConfigError(
                f'Prefix {prefix} is being used by application "{taken[prefix]}". '
                f'Failed to deploy application "{name}".'
            )
        taken[prefix] = name


def _check_blobs(world: World, specs: Iterable[ApplicationSpec], given: Mapping[str, bytes]) -> None:
    needed = {digest for spec in specs for digest in spec.blobs}
    missing = needed - set(given) - world.blobs_in_use()
    if missing:
        raise ConfigError(f"Code blobs are missing: {', '.join(sorted(missing))}.")
