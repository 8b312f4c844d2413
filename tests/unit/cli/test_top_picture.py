"""The picture of `eagleray top`: what is in it, and that it fits every terminal."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from eagleray.cli.top_picture import Choice, draw, problems, rows, scrolled

RATES = ("requests_per_s", "errors_per_s", "p50_ms", "p95_ms", "p99_ms")


def rates(*values: float | None) -> dict[str, Any]:
    return dict(zip(RATES, values, strict=True))


def replica(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "replica_id": name,
        "state": "RUNNING",
        "is_healthy": True,
        "pid": 1,
        "start_time_s": 0.0,
        "ongoing": 3.0,
        "saturation": 0.6,
        "memory_bytes": 50 * 2**20,
        **rates(10.0, 0.0, 1.0, 2.0, 3.0),
        **fields,
    }


def deployment(name: str, replicas: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "HEALTHY",
        "message": "",
        "target_num_replicas": len(replicas),
        "ongoing": 3.0,
        "queued": 7.0,
        "saturation": 0.95,
        **rates(1234.5, 2.5, 3.456, 45.67, 12345.0),
        "replicas": replicas,
        **fields,
    }


def application(name: str, deployments: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "RUNNING",
        "message": "",
        **rates(1200.0, 1.5, 3.0, 4.0, 5.0),
        "deployments": deployments,
        **fields,
    }


def overview(*applications: dict[str, Any], events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    proxies = [{"proxy_id": "p", "protocol": "HTTP", "status": "HEALTHY"}]
    return {
        "now": 1.7e9,
        "window_s": 5,
        "proxies": proxies,
        "applications": list(applications),
        "events": events or [],
    }


def shown(overview: dict[str, Any], width: int = 140, height: int | None = None, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    console.print(draw(overview, width=width, height=height, **more))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().removesuffix("\n").split("\n")


def test_a_line_has_what_is_known_of_it() -> None:
    sick = replica("r2", is_healthy=False, saturation=None, **rates(None, None, None, None, None))
    lines = shown(
        overview(application("shop", [deployment("Cart", [replica("r1"), sick])])), address="unix:x"
    )
    head, totals, _, titles, shop, cart, first, second = lines[:8]
    assert (
        "1 application " in head and "1 deployment " in head and "1 replica up" in head and "unix:x" in head
    )
    assert totals.split() == [
        *(
            [
                "1,200",
                "requests/s",
                "1.5",
                "errors/s",
                "3",
                "ongoing",
                "7",
                "queued",
                "HTTP",
                "proxy",
                "HEALTHY",
            ]
        ),
    ]
    assert titles.split("MEMORY")[0].split()[:4] == ["NAME", "STATUS", "UP", "REQ/S"]
    assert shop.split() == ["shop", "RUNNING", "1,200", "1.5", "3.00", "4.00", "5.00"]
    assert cart.split() == [
        *(["Cart", "HEALTHY", "1/2", "1,234", "2.5", "3.46", "45.7", "12s", "3", "7"]),
        *(["█████▊", "95%"]),
    ]
    assert first.split() == ["r1", "RUNNING", "10.0", "0", "1.00", "2.00", "3.00", "3", "███▋", "60%", "50M"]
    assert second.split() == ["r2", "NOT", "WELL", "-", "-", "-", "-", "-", "3", "-", "50M"]


def test_replicas_can_be_left_out() -> None:
    one = overview(application("shop", [deployment("Cart", [replica("r1"), replica("r2")])]))
    assert [row.name for row in rows(one)] == ["shop", "Cart", "r1", "r2"]
    assert [row.name for row in rows(one, replicas=False)] == ["shop", "Cart"]


def test_what_is_not_well_is_told_without_what_a_terminal_would_obey() -> None:
    bad = deployment("Cart", [], status="UNHEALTHY", message="Traceback:\n  \x1b[31mValueError\x1b[0m: \x07x")
    fine = deployment("Stock", [replica("r")], message="all is well")
    assert problems(overview(application("shop", [bad, fine], status="DEPLOY_FAILED", message="no"))) == [
        "shop: no",
        "shop / Cart: ValueError:  x",
    ]
    assert not any("\x1b" in line for line in shown(overview(application("s\x1b[2Jhop", []))))


def event(message: str, cause: str = "", app: str | None = "shop") -> dict[str, Any]:
    return {
        "id": 1,
        "at": 1.7e9,
        "kind": "died",
        "application": app,
        "deployment": app and "Cart",
        "instance": None,
        "message": message,
        "cause": cause,
    }


def test_the_last_events_are_below_with_their_causes() -> None:
    events = [event(f"Replica r{n} has died.", "Traceback\nValueError: x") for n in range(7)]
    events.append(event("A config was applied.", app=None))
    told = [line for line in shown(overview(events=events)) if "died" in line or "applied" in line]
    assert len(told) == 5
    assert told[0].split("  ", 1)[1].rstrip() == "shop / Cart  Replica r3 has died. (ValueError: x)"
    assert told[-1].split("  ", 1)[1].rstrip() == "A config was applied."
    assert sum("died" in line for line in shown(overview(events=events[:3]))) == 3


def test_an_older_picture_says_so_and_an_empty_instance_is_no_error() -> None:
    lines = shown(overview(), error="not reached", hint="q quit")
    assert lines[1].rstrip() == "not reached" and lines[-1].rstrip() == "q quit"
    assert lines[3].rstrip() == "No application is deployed."


def test_scrolling_ends_at_the_last_line() -> None:
    many = overview(application("shop", [deployment(f"D{n}", []) for n in range(40)]))
    assert any("D0 " in line for line in shown(many, height=20))
    lines = shown(many, height=20, choice=Choice(first=1000))
    assert any("D39 " in line for line in lines) and len(lines) == 20
    down = scrolled(many, Choice(), 1000, height=20, hint="")
    assert shown(many, height=20, choice=down) == lines, "not beyond"
    up = scrolled(many, down, -1, height=20, hint="")
    assert up.first == down.first - 1
    assert not any("D39 " in one for one in shown(many, height=20, choice=up))
    assert scrolled(many, up, -1000, height=20, hint="") == Choice()
    assert scrolled(overview(), Choice(), 3, height=20, hint="") == Choice()
    assert any("of 41" in line for line in lines)


@given(
    st.integers(20, 250),
    st.integers(8, 60),
    st.integers(0, 60),
    st.lists(st.tuples(st.text(max_size=60), st.integers(0, 9)), max_size=9),
    st.booleans(),
)
def test_it_is_never_larger_than_the_terminal(
    width: int, height: int, first: int, apps: list[tuple[str, int]], replicas: bool
) -> None:
    failing = {"status": "UNHEALTHY", "message": "a long story " * 30}
    made = overview(
        *(application(name, [deployment(name, [replica(name)] * n, **failing)]) for name, n in apps),
        events=[event(name * 9, "why") for name, _ in apps],
    )
    lines = shown(
        made, width, height, choice=Choice(replicas, first), hint="q quit", address="unix:" + "x" * 99
    )
    assert len(lines) <= height and max(map(cell_len, lines)) <= width
