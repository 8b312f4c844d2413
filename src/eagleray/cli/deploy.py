"""`eagleray deploy`: hands a config file, or an import path, to the instance; `--wait` tells what comes of it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from eagleray.cli.connection import address_option, connected, find_address, run
from eagleray.cli.files import Listed, is_file, parse_arguments, read_environment, read_file
from eagleray.wire.control import Accepted, ApplyConfig, Progress, WaitApplications, decode

if TYPE_CHECKING:
    from eagleray.cli.remote_control import Control


@click.command()
@click.argument("config_or_import_path")
@click.argument("arguments", nargs=-1)
@click.option("--runtime-env", default=None, metavar="FILE", help="YAML file of the runtime environment.")
@click.option("--runtime-env-json", default=None, metavar="JSON")
@click.option("--working-dir", default=None, metavar="DIR", help="Directory to import the application from.")
@click.option("--name", default=None, help="Name of the application that IMPORT_PATH leads to.")
@click.option("--route-prefix", default=None, help="Path under which it is served; 'none': no HTTP.")
@click.option("--merge", is_flag=True, help="Leave applications alone that the file does not name.")
@click.option("-w", "--wait", is_flag=True, help="Tell of the progress; exit 1 when an application fails.")
@address_option
def deploy(
    config_or_import_path: str,
    arguments: tuple[str, ...],
    runtime_env: str | None,
    runtime_env_json: str | None,
    working_dir: str | None,
    name: str | None,
    route_prefix: str | None,
    merge: bool,
    wait: bool,
    address: str | None,
) -> None:
    """Make CONFIG (a YAML or JSON file) what the instance runs; applications of a former file that it does not name go.

    What `eagleray config` has printed may be CONFIG, too: other applications stay then. '-' is standard input.

    An import path ('module:app', with KEY=VALUE arguments of a builder) in place of a file is the one application.
    """
    where = find_address(address)
    path = config_or_import_path
    if is_file(path):
        data = read_file(path)
        merge = merge or isinstance(data, Listed)
        if arguments:
            raise click.ClickException("Application arguments cannot be specified for a config file.")
        ignored = [runtime_env, runtime_env_json, working_dir, name, route_prefix]
        if any(one is not None for one in ignored):
            _say("Warning: options of an application are ignored beside a config file: write them into it.")
        click.echo(f"Deploying from config file: '{path}'.")
    elif path.endswith((".yaml", ".yml", ".json")):
        raise click.ClickException(
            f"Config file '{os.path.abspath(path)}' does not exist: name one that does."
        )
    else:
        application: dict[str, Any] = {"import_path": path, "args": parse_arguments(arguments)}
        if name is not None:
            application["name"] = name
        if route_prefix is not None:
            application["route_prefix"] = None if route_prefix.lower() == "none" else route_prefix
        if environment := read_environment(runtime_env, runtime_env_json, working_dir):
            application["runtime_env"] = environment
        data = {"applications": [application]}
        click.echo(f"Deploying from import path: '{path}'.")
    sys.exit(run(_deploy(where, data, path, merge, wait)))


async def _deploy(address: str, data: Any, source: str, merge: bool, wait: bool) -> int:
    async with connected(address) as client:
        await apply(client, data, source, merge)
        click.echo(
            "\nSent deploy request successfully.\n"
            " * Use `eagleray status` to check your applications' statuses.\n"
            " * Use `eagleray config` to see the current config(s).\n"
        )
        if not wait:
            return 0
        names = [one.get("name", "default") for one in data["applications"]]
        failed = [name for name in names if not await follow(client, name)]
        return 1 if failed else 0


async def apply(client: Control, data: Any, source: str, merge: bool = False) -> None:
    """Returns when the config is taken; ClickException with all that is wrong with it."""
    try:
        body = json.dumps(data, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{source} holds what JSON cannot: {error}.") from None
    request = ApplyConfig(config=body, merge=merge, sys_path=[os.getcwd()], source=source)
    accepted = await client.request("apply_config", request, Accepted, timeout_s=None)
    if accepted.error:
        raise click.ClickException(accepted.error)
    for warning in accepted.warnings:
        _say(f"Warning: {warning}")


async def follow(client: Control, name: str) -> bool:
    """Tells what becomes of an application until it runs, or does not; whether it does."""
    request = WaitApplications(names=[name], verbose=True)
    async with contextlib.aclosing(client.subscribe("wait", request)) as chunks:
        async for chunk in chunks:
            progress = decode(chunk, Progress)
            if not progress.done:
                _say(f"{name}: {progress.message}")
            elif progress.outcome == "running":
                _say(f"{name}: is running.")
                return True
            else:
                _say(f"{name}: failed. {progress.message.rstrip()}")
    return False


def _say(text: str) -> None:
    click.echo(text, err=True)
