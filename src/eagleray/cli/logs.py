"""`eagleray logs`: what the replicas of an application have written, the dead ones too, in one stream.

It reads the files themselves, so it works while the controller is down and after the instance has ended.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import click

from eagleray.base.log_files import list_files, safe_name
from eagleray.base.settings import Settings
from eagleray.cli.connection import NotReachedError, address_option, ask, find_address
from eagleray.cli.log_lines import Follower, read_all
from eagleray.engine.detached import Places
from eagleray.spec.problems import nearest
from eagleray.wire.control import Empty, JsonReply

_FIRST = 100
"""Lines that `--follow` begins with."""


@click.command()
@click.argument("app")
@click.argument("deployment", required=False)
@address_option
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with what comes, new replicas included, until Ctrl-C."
)
@click.option(
    "-n",
    "--lines",
    default=None,
    type=click.IntRange(0),
    help=f"Only the last N lines.  [default: all; with --follow {_FIRST}]",
)
def logs(app: str, deployment: str | None, address: str | None, follow: bool, lines: int | None) -> None:
    """Print the logs of an application, or of one deployment of it, in the order of time.

    They are those of all its replicas, with files that were rotated away and those of replicas that have gone, and,
    without DEPLOYMENT, of the process that has imported the application.
    """
    details, home = _read_instance(find_address(address))
    pattern = _pattern(app, deployment)
    writers = list(list_files(home, pattern))
    _check(details, home, app, deployment, bool(writers))
    if not follow:
        _write(read_all(writers, lines))
        return
    follower = Follower(lambda: list_files(home, pattern))
    _write(follower.begin(_FIRST if lines is None else lines))
    for found in follower.follow():
        _write(found)


def _read_instance(address: str) -> tuple[dict[str, Any] | None, str]:
    """The details of the instance, None when it does not run, and its directory of logs."""
    try:
        found: dict[str, Any] = json.loads(ask(address, "details", Empty(), JsonReply).body)
    except NotReachedError:
        places = Places.find(Settings.from_env())
        if address != places.address or not os.path.isdir(places.logs_dir):
            raise
        return None, places.logs_dir
    home = os.path.dirname(found["controller_info"]["log_file_path"])
    if not os.path.isdir(home):
        raise click.ClickException(
            f"The logs of the instance at {address} are not on this machine: it keeps them in {home} of its own."
        )
    return found, home


def _pattern(app: str, deployment: str | None) -> re.Pattern[str]:
    name = re.escape(safe_name(app))
    of_replicas = f"replica_{name}_{re.escape(safe_name(deployment)) if deployment else '[^_]+'}_[^_]+"
    return re.compile(
        rf"{of_replicas}\.log" if deployment else rf"(?:{of_replicas}|(?:builder|policies)_{name})\.log"
    )


def _check(
    details: dict[str, Any] | None, home: str, app: str, deployment: str | None, is_found: bool
) -> None:
    """A ClickException for what is not there: neither in the instance nor among the files."""
    if is_found:
        return
    applications = (details or {}).get("applications", {})
    if app not in applications:
        meant = nearest(app, applications)
        hint = f" Did you mean '{meant}'?" if meant else ""
        raise click.ClickException(f"There is no application '{app}', and no log of one in {home}.{hint}")
    known = applications[app]["deployments"]
    if deployment is not None and deployment not in known:
        raise click.ClickException(
            f"Application '{app}' has no deployment '{deployment}', and {home} no log of one. It has: "
            f"{', '.join(known) or 'none yet'}."
        )


def _write(lines: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    try:
        out.writelines(lines)
        out.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise SystemExit(0) from None
