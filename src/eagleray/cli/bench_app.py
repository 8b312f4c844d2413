"""Where an application of the running instance is asked."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import click

from eagleray.cli.connection import ask, find_address
from eagleray.wire.control import Empty, JsonReply

_ANY = ("0.0.0.0", "::", "")


def find_url(app: str, address: str | None) -> str:
    """URL of the application's route, without a slash at its end. Raises ClickException with what to do."""
    if any(mark in app for mark in ":/"):
        raise click.UsageError(
            f"'{app}' is neither a URL nor the name of an application: did you mean http://{app}?"
        )
    where = find_address(address)
    found = json.loads(ask(where, "details", Empty(), JsonReply).body)
    application = found["applications"].get(app)
    if application is None:
        known = ", ".join(found["applications"]) or "none"
        raise click.ClickException(f'Application "{app}" does not exist. There are: {known}.')
    prefix = application["route_prefix"]
    targets = [
        one for group in found["target_groups"] if group["protocol"] == "HTTP" for one in group["targets"]
    ]
    if prefix is None or not targets:
        why = "has no route" if targets else "cannot be reached by HTTP: no proxy is running"
        raise click.ClickException(f'Application "{app}" {why} (its status is {application["status"]}).')
    host = targets[0]["ip"]
    if host in _ANY:
        host = (urlsplit(where).hostname if where.startswith("http") else None) or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{targets[0]['port']}{prefix.rstrip('/')}"
