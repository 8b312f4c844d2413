"""`eagleray status` and `config`: what runs, and what was asked for."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from eagleray.cli.connection import address_option, ask, find_address
from eagleray.cli.rendering import status_table, to_json, to_yaml
from eagleray.wire.control import Empty, JsonReply, StatusReply

_LOOK_S = 1.0
"""How often `--watch` looks again: no more often than a person reads."""


@click.command()
@address_option
@click.option("-n", "--name", default=None, help="Only this application.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML or a table.")
@click.option("--details", is_flag=True, help="Everything there is to know, as JSON.")
@click.option("-w", "--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
def status(address: str | None, name: str | None, as_json: bool, details: bool, watch: bool) -> None:
    """Show applications, deployments and proxies: a table on a terminal, YAML otherwise."""
    where = find_address(address)
    if details:
        click.echo(to_json(json.loads(ask(where, "details", Empty(), JsonReply).body)))
        return
    shown = _show(_read(where), name, as_json)
    while watch:
        time.sleep(_LOOK_S)
        found = _read(where)
        if found != shown:
            click.echo("" if sys.stdout.isatty() else "---")
            shown = _show(found, name, as_json)


def _read(address: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(address, "status", Empty(), StatusReply).status)
    return found


def _show(status: dict[str, Any], name: str | None, as_json: bool) -> dict[str, Any]:
    """Prints it, and returns what was given."""
    value = status
    if name is not None:
        if name not in status["applications"]:
            click.echo(f'Application "{name}" does not exist.', err=True)
            return status
        value = status["applications"][name]
    if as_json:
        click.echo(to_json(value))
    elif sys.stdout.isatty():
        _print_table(status if name is None else {**status, "applications": {name: value}})
    else:
        click.echo(to_yaml(value), nl=False)
    return status


def _print_table(status: dict[str, Any]) -> None:
    from rich.console import Console  # see rendering

    if not status["applications"]:
        click.echo("No application is deployed.")
        return
    Console().print(status_table(status))


@click.command()
@address_option
@click.option("-n", "--name", default=None, help="Only this application.")
def config(address: str | None, name: str | None) -> None:
    """Print what config files say of each application, as YAML."""
    found = json.loads(ask(find_address(address), "applied_config", Empty(), JsonReply).body)
    if name is not None:
        if name not in found:
            click.echo(f'No config has been deployed for application "{name}".')
            return
        click.echo(to_yaml(found[name]), nl=False)
    elif not found:
        click.echo("No configuration was found.")
    else:
        click.echo("\n---\n\n".join(to_yaml(one) for one in found.values()), nl=False)


@click.command("controller-health")
@address_option
@click.option("--json", "as_json", is_flag=True, help="JSON in place of YAML.")
def controller_health(address: str | None, as_json: bool) -> None:
    """Print how the controller is: its age, its loop, its memory."""
    details = json.loads(ask(find_address(address), "details", Empty(), JsonReply).body)
    metrics = details["controller_health_metrics"]
    if as_json:
        click.echo(to_json(metrics))
    else:
        click.echo(to_yaml(metrics), nl=False)
