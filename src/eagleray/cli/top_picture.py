"""The picture of `eagleray top`: an overview of the instance (docs/rest.md) as lines for a terminal of a given size.

Pure: what is drawn follows from the overview, the size and what the person has chosen. A line is never folded, so that
the picture is as high as it has lines; of what has no place the narrow columns go first, then the lowest lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eagleray.cli.rendering import plain

_COLOURS = {
    "RUNNING": "green",
    "HEALTHY": "green",
    "DEPLOY_FAILED": "bold red",
    "UNHEALTHY": "bold red",
    "STOPPED": "red",
}
"""Of statuses; those that pass are yellow."""

_BAR = 6
_BLOCKS = " ▏▎▍▌▋▊▉█"
_BUSY, _FULL = 0.7, 0.9
"""Saturation from which on a deployment is yellow, and red."""

_FOOT = 5
"""Lines at most for what is not well, and for the last events."""


_HEAD = 2


@dataclass(frozen=True)
class Choice:
    """What the person wants to see. `first` is the number of lines scrolled away."""

    replicas: bool = True
    first: int = 0


@dataclass(frozen=True)
class Row:
    """A line: an application, a deployment or a replica; `value` are the fields of the overview."""

    depth: int
    name: str
    status: str
    up: str
    value: dict[str, Any]
    is_well: bool = True


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    show: Callable[[Row], Text | str]
    rank: int = 0
    """Where there is no room the one with the highest goes first."""


def rows(overview: dict[str, Any], *, replicas: bool = True) -> list[Row]:
    """All lines in their order."""
    found = []
    for app in overview["applications"]:
        found.append(Row(0, app["name"], app["status"], "", app))
        for deployment in app["deployments"]:
            living = deployment["replicas"]
            up = sum(one["is_healthy"] for one in living)
            of = f"{up}/{deployment['target_num_replicas']}"
            found.append(Row(1, deployment["name"], deployment["status"], of, deployment))
            if replicas:
                found += [Row(2, one["replica_id"], one["state"], "", one, _is_well(one)) for one in living]
    return found


def draw(
    overview: dict[str, Any],
    *,
    width: int,
    height: int | None = None,
    choice: Choice = Choice(),
    address: str = "",
    error: str = "",
    hint: str = "",
) -> RenderableType:
    """The picture, `width` wide and at most `height` lines high (None: as high as it is).

    `error` is said in place of the totals: the overview is an older one then. `hint` comes last.
    """
    lines = rows(overview, replicas=choice.replicas)
    most = _foot_lines(height)
    foot = [_line(one, "red") for one in problems(overview)[:most]]
    foot += [_event(one) for one in overview["events"][max(len(overview["events"]) - most, 0) :]]
    if hint:
        foot.append(_line(hint, "dim"))
    if height is not None and len(lines) > _room(overview, height, hint):
        first, number = scrolled(overview, choice, 0, height=height, hint=hint).first, len(lines)
        lines = lines[first : first + _most_rows(overview, height, hint)]
        foot.insert(0, _line(f"  lines {first + 1} to {first + len(lines)} of {number}", "dim"))
    empty = _line("No application is deployed.")
    head = _head(overview, address, error)
    return Group(*head, Text(), _table(lines, width) if lines else empty, Text(), *foot)


def scrolled(overview: dict[str, Any], choice: Choice, by: int, *, height: int, hint: str) -> Choice:
    """The choice after scrolling `by` lines: neither above the first nor below the last one."""
    number = len(rows(overview, replicas=choice.replicas))
    last = number - _most_rows(overview, height, hint) if number > _room(overview, height, hint) else 0
    return replace(choice, first=max(min(choice.first + by, last), 0))


def _foot_lines(height: int | None) -> int:
    """Lines at most for each of problems and events."""
    return _FOOT if height is None else min(max(height - 10, 0) // 4, _FOOT)


def _room(overview: dict[str, Any], height: int, hint: str) -> int:
    """Lines for the table: beside head, foot, titles, and the empty lines around it."""
    most = _foot_lines(height)
    foot = min(len(problems(overview)), most) + min(len(overview["events"]), most) + bool(hint)
    return height - _HEAD - foot - 3


def _most_rows(overview: dict[str, Any], height: int, hint: str) -> int:
    """The same where a line says which ones they are."""
    return max(_room(overview, height, hint) - 1, 1)


def _event(event: dict[str, Any]) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    owner = " / ".join(one for one in (event["application"], event["deployment"]) if one)
    cause = event["cause"].strip().rpartition("\n")[2]  # of a traceback the line that says what was raised
    told = f"{event['message']} ({cause})" if cause else event["message"]
    line = Text.assemble((f"{clock}  ", "dim"), (f"{plain(owner)}  " if owner else "", "bold"), plain(told))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def problems(overview: dict[str, Any]) -> list[str]:
    """What the instance says of what is not well, a line each."""
    found = []
    for app in overview["applications"]:
        said = [(app["name"], app)]
        said += [(f"{app['name']} / {one['name']}", one) for one in app["deployments"]]
        for name, one in said:
            message = plain(one["message"].strip().rpartition("\n")[2]).strip()
            if message and one["status"] not in ("RUNNING", "HEALTHY"):
                found.append(f"{plain(name)}: {message}")
    return found


def _is_well(replica: dict[str, Any]) -> bool:
    return bool(replica["is_healthy"]) or replica["state"] not in ("RUNNING", "UPDATING", "RECOVERING")


def _head(overview: dict[str, Any], address: str, error: str) -> list[Text]:
    apps = overview["applications"]
    deployments = [one for app in apps for one in app["deployments"]]
    up = sum(replica["is_healthy"] for one in deployments for replica in one["replicas"])
    clock = time.strftime("%H:%M:%S", time.localtime(overview["now"]))
    counts = (
        f"{clock}   {len(apps)} application{'s' * (len(apps) != 1)}   "
        f"{len(deployments)} deployment{'s' * (len(deployments) != 1)}   {up} replica{'s' * (up != 1)} up"
    )
    first = Text.assemble(("eagleray top", "bold"), f"   {counts}   ", (address, "dim"))
    totals = Text.assemble(*_totals(apps), *_proxies(overview["proxies"]))
    second = Text(error, style="bold red") if error else totals
    for line in (first, second):
        line.no_wrap, line.overflow = True, "ellipsis"
    return [first, second]


def _totals(apps: list[dict[str, Any]]) -> Iterator[Text | tuple[str, str] | str]:
    """Of the whole instance, as its proxies see it."""
    requests = [app["requests_per_s"] for app in apps if app["requests_per_s"] is not None]
    errors = sum(app["errors_per_s"] or 0.0 for app in apps)
    if requests:
        yield f"{_rate(sum(requests))} requests/s   "
        yield (f"{_rate(errors)} errors/s   ", "red" if errors else "")
    waiting = sum(one["queued"] for app in apps for one in app["deployments"])
    ongoing = sum(one["ongoing"] for app in apps for one in app["deployments"])
    yield f"{ongoing:.0f} ongoing   "
    yield (f"{waiting:.0f} queued   ", "yellow" if waiting else "")


def _proxies(proxies: list[dict[str, Any]]) -> Iterator[Text | str]:
    for proxy in proxies:
        yield f"{proxy['protocol']} proxy "
        yield _status(proxy["status"])
        yield "   "


# ---- the table -----------------------------------------------------------------------------------------------------


def _table(lines: list[Row], width: int) -> Table:
    columns = _fitting(width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", width=width)
    table.add_column("NAME", no_wrap=True, overflow="ellipsis", ratio=1)
    for column in columns:
        side: Literal["left", "right"] = "left" if column.title == "STATUS" else "right"
        table.add_column(column.title, no_wrap=True, width=column.width, justify=side)
    for row in lines:
        style = ("bold", "", "dim" if row.is_well else "")[row.depth]
        name = Text("  " * row.depth + plain(row.name), style=style)
        table.add_row(name, *(column.show(row) for column in columns))
    return table


_LEAST_NAME = 18
"""Characters of a name that can be seen in the narrowest picture."""


def _fitting(width: int) -> list[_Column]:
    columns = list(_COLUMNS)
    while len(columns) > 1 and sum(one.width + 2 for one in columns) + _LEAST_NAME > width:
        columns.remove(max(columns, key=lambda one: one.rank))
    return columns


def _status(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, "yellow"))


def _state(row: Row) -> Text:
    return _status(row.status) if row.is_well else Text("NOT WELL", style="bold red")


def _number(name: str, show: Callable[[float], str], style: str = "") -> Callable[[Row], Text]:
    """Shows a field; nothing where there is none of it, and grey where it is 0."""

    def cell(row: Row) -> Text:
        value = row.value.get(name)
        if value is None:
            return Text("-" if name in row.value else "", style="dim")
        return Text(show(value), style=style if value else "dim")

    return cell


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}"


def _ms(value: float) -> str:
    """At most five characters; from ten seconds on in seconds."""
    if value >= 10_000:
        return f"{value / 1000:.0f}s"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _mib(value: float) -> str:
    return f"{value / 2**20:,.0f}M"


def _saturation(row: Row) -> Text:
    value = row.value.get("saturation")
    if value is None:
        return Text("-" if "saturation" in row.value else "", style="dim")
    style = "bold red" if value >= _FULL else "yellow" if value >= _BUSY else "green" if value else "dim"
    return Text(f"{_bar(value)} {value:4.0%}", style=style)


def _bar(share: float) -> str:
    eighths = round(min(share, 1.0) * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(_BAR)


_COLUMNS = (
    _Column("STATUS", 13, _state),
    _Column("UP", 5, lambda row: row.up, rank=1),
    _Column("REQ/S", 7, _number("requests_per_s", _rate)),
    _Column("ERR/S", 6, _number("errors_per_s", _rate, "bold red"), rank=2),
    _Column("P50 ms", 6, _number("p50_ms", _ms), rank=6),
    _Column("P95 ms", 6, _number("p95_ms", _ms), rank=7),
    _Column("P99 ms", 6, _number("p99_ms", _ms), rank=3),
    _Column("ONGOING", 7, _number("ongoing", "{:,.0f}".format), rank=5),
    _Column("QUEUE", 5, _number("queued", "{:,.0f}".format, "yellow"), rank=4),
    _Column("SATURATION", 11, _saturation, rank=2),
    _Column("MEMORY", 7, _number("memory_bytes", _mib), rank=8),
)
