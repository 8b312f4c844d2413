"""`eagleray start`, `shutdown` and `delete`: the instance that outlives its terminal, and the end of things."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import click

from eagleray.base.errors import EaglerayError
from eagleray.base.settings import Settings
from eagleray.cli.connection import (
    NotReachedError,
    address_option,
    ask,
    connected,
    find_address,
    run,
)
from eagleray.cli.relay import relayed
from eagleray.engine.base import EngineError
from eagleray.engine.detached import Places, end_started, is_running, start_detached
from eagleray.engine.spawn import node_config
from eagleray.spec.options import ProxyLocation, gRPCOptions
from eagleray.store.sqlite import require_key
from eagleray.wire.control import DeleteApplications, Empty, InstanceInfo, StatusReply

_END_S = 10.0
"""Node's own end takes at most 2 s after everything else is gone."""

_LOOK_S = 0.02

_PATIENCE_S = 5.0
"""After this a start that has not ended says where its reason may stand."""


@click.command()
@click.option("--http-host", default=None, help="Address that the HTTP proxy binds.  [default: loopback]")
@click.option("--http-port", default=None, type=click.IntRange(0, 65535), help="[default: 8000]")
@click.option("--proxy-location", default="EveryNode", show_default=True, type=click.Choice([*ProxyLocation]))
@click.option("--grpc-port", default=9000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--grpc-servicer-functions", multiple=True, metavar="MODULE:FUNCTION", help="May be repeated.")
@click.option("--grpc-enable-reflection/--grpc-disable-reflection", "reflection", default=True)
@click.option(
    "--block", is_flag=True, help="Return when the instance has ended; hand SIGTERM and Ctrl-C on to it."
)
def start(
    http_host: str | None,
    http_port: int | None,
    proxy_location: str,
    grpc_port: int,
    grpc_servicer_functions: tuple[str, ...],
    reflection: bool,
    block: bool,
) -> None:
    """Start an instance that outlives this terminal; applications of its former life come back."""
    options: dict[str, Any] = {}
    if http_host is not None:
        options["http_host"] = http_host
    if http_port is not None:
        options["http_port"] = http_port
    if proxy_location == ProxyLocation.Disabled:
        options["http_host"] = None
    if grpc_servicer_functions:
        grpc = gRPCOptions(
            port=grpc_port,
            grpc_servicer_functions=list(grpc_servicer_functions),
            enable_reflection=reflection,
        )
        options["grpc_options"] = {**grpc.model_dump(mode="json"), "sys_path": [os.getcwd()]}
    try:
        settings = Settings.from_env()
        _check_state(Places.find(settings))
        places, node = start_detached(node_config(**options), settings)
    except EngineError as error:
        if error.code == "exists":
            _tell_running()
        raise click.ClickException(f"Eagleray could not start: {error.reason}") from error
    except (EaglerayError, OSError) as error:
        raise click.ClickException(f"Eagleray could not start: {error}") from error
    if block:
        _hand_signals_on(node)
    if not block:
        try:
            _announce(places, node)
        finally:
            node.returncode = 0  # nobody's child from here on: it is not waited for
        return
    with relayed(places.logs_dir):
        _announce(places, node)
        status = node.wait()
    sys.exit(status)


def _check_state(places: Places) -> None:
    """Raises StoreError for what no controller can start with; one that runs already needs no check."""
    if not is_running(places):
        require_key(places.state_dir)


def _hand_signals_on(node: subprocess.Popen[bytes]) -> None:
    """The first one drains the instance, a second one ends it at once."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: node.send_signal(signal.SIGTERM))


def _tell_running() -> None:
    try:
        info = ask(find_address(None), "info", Empty(), InstanceInfo)
    except NotReachedError:
        raise click.ClickException(
            "Another `eagleray start` or `shutdown` is under way: try again in a moment."
        ) from None
    where = f" at {info.http_url}" if info.http_url else ""
    raise click.ClickException(
        f"Eagleray runs already{where} (controller {info.pid}). Deploy to it, or end it with `eagleray shutdown`."
    )


def _announce(places: Places, node: subprocess.Popen[bytes]) -> None:
    """Waits until the proxies listen; an instance whose proxy cannot is ended, and keeps its applications."""
    try:
        info = run(first_info(places))
        failed = info.http_error or info.grpc_error
    except NotReachedError as error:
        raise click.ClickException(
            f"Eagleray could not start: {error.message}\nLogs: {places.logs_dir}"
        ) from error
    if failed:
        end_started(node)
        raise click.ClickException(f"Eagleray could not start: {failed}")
    if info.http_url:
        click.echo(f"  HTTP   {info.http_url}")
    if info.grpc_address:
        click.echo(f"  gRPC   {info.grpc_address}")
    if info.admin_url:
        click.echo(f"  Admin  {info.admin_url} (token: {info.admin_token_path})")
    click.echo(f"  Logs   {info.logs_dir}\n  Next   eagleray deploy config.yaml\n  Stop   eagleray shutdown")


async def first_info(places: Places) -> InstanceInfo:
    """Waits until the proxies listen, or cannot, and tells where to look when that takes long."""
    asking = asyncio.ensure_future(_info(places.address))
    _, late = await asyncio.wait({asking}, timeout=_PATIENCE_S)
    if late:
        click.echo(
            f"The controller does not answer yet; the reason may stand in {places.logs_dir}.", err=True
        )
    return await asking


async def _info(address: str) -> InstanceInfo:
    async with connected(address) as client:
        return await client.request("info", Empty(), InstanceInfo, timeout_s=None)


@click.command()
@address_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def shutdown(address: str | None, yes: bool) -> None:
    """Delete all applications and end the instance."""
    where = find_address(address)
    if not yes:
        click.confirm(
            "This will shut down Eagleray and delete all applications. Do you want to continue?", abort=True
        )
    places = Places.find(Settings.from_env()) if address is None else None
    try:
        shut_down(where, places)
    except NotReachedError:
        click.echo(f"No Serve instance found running at {where}.", err=True)
        return
    click.echo("Eagleray has been shut down.")


async def _ask_to_end(address: str) -> None:
    async with connected(address) as client:
        with contextlib.suppress(EaglerayError):  # the controller ends with its answer
            async with contextlib.aclosing(client.subscribe("shutdown", Empty())) as answers:
                async for _ in answers:
                    pass


def shut_down(address: str, places: Places | None) -> None:
    """Returns when everything is gone, node among it where its `places` are known."""
    run(_ask_to_end(address))
    if places is None or places.address != address:
        return
    end = time.monotonic() + _END_S
    while is_running(places) and time.monotonic() < end:
        time.sleep(_LOOK_S)


@click.command()
@click.argument("names", nargs=-1, required=True)
@address_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def delete(names: tuple[str, ...], address: str | None, yes: bool) -> None:
    """Delete applications, however they were deployed; returns when they are gone."""
    if not yes:
        click.confirm(f"This will delete {', '.join(names)}. Do you want to continue?", abort=True)
    where = find_address(address)
    known = json.loads(ask(where, "status", Empty(), StatusReply).status)["applications"]
    for name in names:
        if name not in known:  # no error: it is as it was wanted to be
            click.echo(f'Application "{name}" does not exist.', err=True)
    if found := [name for name in dict.fromkeys(names) if name in known]:
        ask(where, "delete", DeleteApplications(names=found), Empty)
        click.echo(f"Deleted: {', '.join(found)}.")
