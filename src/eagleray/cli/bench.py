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
from eagleray.loadtest.plan import Message, Objective, Plan, Url

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_CONNECTIONS = (10, 1000)
"""Of a closed and an open loop."""
_DURATION_S = (10.0, 5.0)
"""Of one load and of a trial."""


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
    "-d",
    "--duration",
    type=Duration(),
    help="How long to measure, 10s otherwise; with --slo each trial, 5s otherwise.",
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
@click.option("--slo", type=Duration(), help="Find the highest rate at which latency stays within it.")
@click.option(
    "--percentile",
    type=click.FloatRange(1, 99.999),
    default=99.0,
    show_default=True,
    help="Of all requests, that --slo is about.",
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--svg", metavar="FILE", type=click.Path(dir_okay=False), help="A picture of it, too.")
@click.option(
    "--ledger", metavar="FILE", type=click.Path(dir_okay=False), help="A line of JSON for each request."
)
def bench(target: str, address: str | None, path: str, as_json: bool, svg: str | None, **given: Any) -> None:
    """Put load on a URL or a running application.

    Without --rate each of the connections asks again as soon as it is answered (closed loop). With it requests leave at
    their times whatever happens to earlier ones, as those of many clients do, and latency counts from those times.
    With --slo such loads search for the highest rate that keeps it, beginning at --rate if that is given.
    """
    from eagleray.cli import bench_run  # uvloop and the client: not for --help

    try:
        url = _url(target, address, path)
        message = _message(given)
        plan = _plan(given)
        if given["slo"] is None:
            found, was_interrupted = bench_run.run(url, message, plan, given["ledger"])
        else:
            objective = Objective(given["slo"], given["percentile"])
            found, was_interrupted = bench_run.search(url, message, plan, objective)
    except EaglerayError as error:
        raise click.ClickException(str(error)) from error
    _show(found, as_json, svg, is_search=given["slo"] is not None)
    if was_interrupted:
        sys.exit(INTERRUPTED)
    if not (found["rps"] if given["slo"] is None else found["rate"]):
        sys.exit(1)


def _show(found: dict[str, Any], as_json: bool, svg: str | None, *, is_search: bool) -> None:
    from eagleray.loadtest.report import text  # see above
    from eagleray.loadtest.svg import draw
    from eagleray.loadtest.verdict import verdict_text

    report = found["report"] if is_search else found
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(verdict_text(found) if is_search else text(found), nl=False)
    if svg is not None and report is not None:
        try:
            Path(svg).write_text(draw(report), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"The picture cannot be written: {error}.") from None


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
    rate, slo = given["rate"], given["slo"]
    if slo is not None and (given["requests"] is not None or given["ledger"] is not None or slo <= 0):
        raise click.UsageError("--slo is a time, and its search goes with neither --requests nor --ledger.")
    duration_s = _DURATION_S[slo is not None] if given["duration"] is None else given["duration"]
    if given["poisson"] and rate is None and slo is None:
        raise click.UsageError("--poisson belongs to an open loop: give a --rate.")
    if duration_s <= 0 or given["timeout"] <= 0:
        raise click.UsageError("--duration and --timeout must be more than nothing.")
    return Plan(
        rate=rate,
        is_poisson=given["poisson"],
        seed=given["seed"],
        connections=given["connections"] or _CONNECTIONS[rate is not None or slo is not None],
        duration_s=duration_s,
        requests=given["requests"],
        warm_up_s=given["warm_up"],
        timeout_s=given["timeout"],
        keep_alive=not given["no_keep_alive"],
    )
