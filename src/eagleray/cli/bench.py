"""`eagleray bench`: puts load on a URL or on a running application, and reports what becomes of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from eagleray.base.errors import EaglerayError
from eagleray.cli.connection import address_option
from eagleray.cli.interrupt import INTERRUPTED
from eagleray.loadtest.plan import Message, Plan, Url

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_CONNECTIONS = (10, 1000)
"""Of a closed and an open loop."""


class Duration(click.ParamType[float]):
    """Seconds out of '50ms', '10s', '1.5m' or '10'."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(us|ms|s|m|h|)", str(value).strip())
        if found is None:
            self.fail(f"'{value}' is no duration: write 50ms, 10s or 2m.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("target", metavar="URL|APP")
@address_option
@click.option("--path", default="", help="What to ask of APP, behind its route prefix.")
@click.option("-r", "--rate", type=click.FloatRange(0.01, 1e6), help="Open loop: so many requests a second.")
@click.option("--poisson", is_flag=True, help="Random intervals instead of equal ones.")
@click.option("--seed", default=1, show_default=True, help="Of the random intervals.")
@click.option(
    "-c",
    "--connections",
    type=click.IntRange(1, 60000),
    help="Closed loop: how many, 10 otherwise. Open loop: at most so many, 1000 otherwise.",
)
@click.option(
    "-d", "--duration", type=Duration(), default="10s", show_default=True, help="How long to measure."
)
@click.option("-n", "--requests", type=click.IntRange(1), help="Stop after so many requests.")
@click.option(
    "-w", "--warm-up", type=Duration(), default="1s", show_default=True, help="Load before the measurement."
)
@click.option("-t", "--timeout", type=Duration(), default="10s", show_default=True, help="Of a request.")
@click.option("-X", "--method", help="GET, or POST with a body.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="May come several times."
)
@click.option("-b", "--body", metavar="TEXT|@FILE", help="What to send.")
@click.option("-j", "--json-body", metavar="JSON|@FILE", help="The same, as application/json.")
@click.option("--no-keep-alive", is_flag=True, help="A new connection for each request.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def bench(target: str, address: str | None, path: str, as_json: bool, **given: Any) -> None:
    """Put load on a URL or a running application.

    Without --rate each of the connections asks again as soon as it is answered (closed loop). With it requests leave at
    their times whatever happens to earlier ones, as those of many clients do, and latency counts from those times.
    """
    from eagleray.cli import bench_run  # uvloop and the client: not for --help

    try:
        url = _url(target, address, path)
        message = _message(given)
        plan = _plan(given)
        found, was_interrupted = bench_run.run(url, message, plan)
    except EaglerayError as error:
        raise click.ClickException(str(error)) from error
    from eagleray.loadtest.report import text

    click.echo(json.dumps(found, indent=2) if as_json else text(found), nl=as_json)
    if was_interrupted:
        sys.exit(INTERRUPTED)


def _url(target: str, address: str | None, path: str) -> Url:
    if "://" not in target:
        from eagleray.cli.bench_app import find_url  # asks the instance

        return Url.parse(find_url(target, address) + path)
    if path or address is not None:
        raise click.UsageError("--path and --address belong to an APP: a URL says it all.")
    return Url.parse(target)


def _message(given: dict[str, Any]) -> Message:
    text, json_text = given["body"], given["json_body"]
    if text is not None and json_text is not None:
        raise click.UsageError("Give --body or --json-body, not both.")
    headers = []
    for header in given["headers"]:
        name, found, value = header.partition(":")
        if not found:
            raise click.UsageError(f"--header '{header}' has no colon: write 'Name: value'.")
        headers.append((name.strip(), value.strip()))
    body = _read(text if json_text is None else json_text)
    if json_text is not None:
        try:
            json.loads(body)
        except ValueError as error:
            raise click.UsageError(f"--json-body is no JSON: {error}.") from None
        if "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Type", "application/json"))
    method = given["method"] or ("GET" if text is None and json_text is None else "POST")
    return Message(method.upper(), headers, body)


def _read(text: str | None) -> bytes:
    if text is None:
        return b""
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"The body cannot be read: {error}.") from None


def _plan(given: dict[str, Any]) -> Plan:
    rate = given["rate"]
    if given["poisson"] and rate is None:
        raise click.UsageError("--poisson belongs to an open loop: give a --rate.")
    if given["duration"] <= 0 or given["timeout"] <= 0:
        raise click.UsageError("--duration and --timeout must be more than nothing.")
    return Plan(
        rate=rate,
        is_poisson=given["poisson"],
        seed=given["seed"],
        connections=given["connections"] or _CONNECTIONS[rate is not None],
        duration_s=given["duration"],
        requests=given["requests"],
        warm_up_s=given["warm_up"],
        timeout_s=given["timeout"],
        keep_alive=not given["no_keep_alive"],
    )
