"""`eagleray events`: what the instance has gone through lately, a line for each change, with its cause."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click

from eagleray.cli.connection import address_option, ask, find_address
from eagleray.wire.control import JsonReply
from eagleray.wire.records import Recollect

_LOOK_S = 1.0
"""Between two looks of `--follow`."""

_BAD = ("died", "start_failed", "unhealthy", "refused", "killed", "rollout_stopped", "rollout_rolled_back")


@click.command()
@click.argument("app", required=False)
@address_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", default=None, type=click.IntRange(0), help="Only the last N.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with all there is to know.")
def events(app: str | None, address: str | None, follow: bool, lines: int | None, as_json: bool) -> None:
    """Print the last changes of applications, deployments, replicas and proxies, the oldest first.

    With APP those of one application.
    """
    where = find_address(address)
    query: dict[str, Any] = {"application": app} if app is not None else {}
    found = _read(where, query | ({"limit": lines} if lines is not None else {}))
    _print(found, as_json)
    while follow:
        time.sleep(_LOOK_S)
        found = _read(where, query | {"since": found["next"]})
        if found["missed"]:
            click.echo("Some events came and went unseen.", err=True)
        _print(found, as_json)


def _read(address: str, query: dict[str, Any]) -> dict[str, Any]:
    reply = ask(address, "events", Recollect(query=urlencode(query)), JsonReply)
    found: dict[str, Any] = json.loads(reply.body)
    return found


def _print(found: dict[str, Any], as_json: bool) -> None:
    for event in found["events"]:
        click.echo(json.dumps(event) if as_json else _line(event))
    sys.stdout.flush()


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    owner = "#".join(one for one in (event["application"], event["deployment"]) if one) or "-"
    kind = click.style(event["kind"], fg="red") if event["kind"] in _BAD else event["kind"]
    # Of a traceback its last line, which says what was raised.
    cause = event["cause"].rpartition("\n")[2]
    return f"{at}  {kind}  {owner}  {event['message']}" + (f" ({cause})" if cause else "")
