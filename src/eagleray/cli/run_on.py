"""`eagleray run --non-blocking`: the instance of `eagleray start` serves it, started if need be, and goes on.

It is that command and a deploy in one. What it has started itself it ends again when nothing of it can be served, and
keeps what was deployed to former lives of the instance; one that ran before is left as it is.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import click

from eagleray.base.errors import EaglerayError
from eagleray.base.settings import Settings
from eagleray.cli.connection import NotReachedError, connected, run
from eagleray.cli.deploy import follow
from eagleray.cli.plan import Plan
from eagleray.cli.start import first_info
from eagleray.engine.base import EngineError
from eagleray.engine.detached import Places, end_started, start_detached
from eagleray.engine.spawn import node_config
from eagleray.wire.control import (
    Accepted,
    ApplyConfig,
    DeleteApplications,
    DeployImport,
    Empty,
    InstanceInfo,
    StatusReply,
)


def run_on(plan: Plan, options: dict[str, Any], given: list[str]) -> int:
    """The exit code: 0 when something of it is served. `options` are node's, `given` names the user's."""
    source = plan.import_path if plan.config is None else plan.config.source
    click.echo(f"Running {'import path' if plan.config is None else 'config file'}: '{source}'.")
    places, node = _instance(options)
    if given and node is None:
        click.echo(f"Warning: {', '.join(given)} ignored: the instance runs already, with its own.", err=True)
    try:
        info = run(_serve(plan, places, is_mine=node is not None))
    except NotReachedError as error:
        raise click.ClickException(f"{error.message}\nLogs: {places.logs_dir}") from error
    except click.ClickException:
        if node is not None:
            end_started(node)
        raise
    finally:
        if node is not None:
            node.returncode = 0  # nobody's child from here on: it is not waited for
    _announce(plan, info)
    return 0


def _instance(options: dict[str, Any]) -> tuple[Places, subprocess.Popen[bytes] | None]:
    """Where it is, and its node when it was started for this."""
    settings = Settings.from_env()
    try:
        places, node = start_detached(node_config(**options), settings)
    except EngineError as error:
        if error.code != "exists":
            raise click.ClickException(f"Eagleray could not start: {error.reason}") from error
        return Places.find(settings), None
    except (EaglerayError, OSError) as error:
        raise click.ClickException(f"Eagleray could not start: {error}") from error
    return places, node


async def _serve(plan: Plan, places: Places, *, is_mine: bool) -> InstanceInfo:
    """Returns when at least one application runs; ClickException when none does, or the proxies cannot listen."""
    info = await first_info(places)
    if failed := info.http_error or info.grpc_error:
        raise click.ClickException(f"Eagleray could not start: {failed}")
    if plan.config is None:
        method: str = "deploy_import"
        request: DeployImport | ApplyConfig = DeployImport(
            import_path=plan.import_path,
            args=dict(plan.arguments),
            name=plan.name,
            route_prefix=plan.route_prefix,
            sys_path=[plan.app_dir],
            env_vars=plan.env_vars,
        )
    else:
        method = "apply_config"
        request = ApplyConfig(config=plan.config.data, sys_path=[plan.app_dir], source=plan.config.source)
    async with connected(places.address) as client:
        status = await client.request("status", Empty(), StatusReply, timeout_s=None)
        known = json.loads(status.status)["applications"]
        accepted = await client.request(method, request, Accepted, timeout_s=None)
        if accepted.error:
            raise click.ClickException(accepted.error)
        if not any([await follow(client, name) for name in plan.applications]):
            if is_mine and (new := [name for name in plan.applications if name not in known]):
                await client.request("delete", DeleteApplications(names=new), Empty, timeout_s=None)
            raise click.ClickException(f"Nothing of it can be served. Logs: {places.logs_dir}")
    return info


def _announce(plan: Plan, info: InstanceInfo) -> None:
    for name, prefix in plan.applications.items():
        if prefix is None or not info.http_url:
            click.echo(f"  App    {name} (no HTTP route)")
        else:
            click.echo(f"  App    {info.http_url.rstrip('/')}{prefix}")
    click.echo(f"  Logs   {info.logs_dir}\n  Stop   eagleray shutdown")
