from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import pytest

from eagleray.base import access_log
from eagleray.base.access_log import AccessLog, Client, FullAccessLog, JsonAccessLog, TextAccessLog
from eagleray.base.log_formats import Component

PROXY = Component("proxy", "p1")
REPLICA = Component("app_Model", "r1", {"component_name": "replica", "replica": "r1"})
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

Kind = Callable[..., AccessLog]


class Asked(NamedTuple):
    request_id: str = ""
    app: str = ""
    traceparent: str = ""


def entry(
    method: str = "GET",
    route: str = "/",
    status: int | str = 200,
    took_s: float = 0.0,
    request_id: str = "",
    app: str = "",
    traceparent: str = "",
    client: Client | None = None,
) -> tuple[Any, ...]:
    now = monotonic()
    return method, route, status, now - took_s, now, Asked(request_id, app, traceparent), client


def written_by(
    work: Callable[[AccessLog], None],
    kind: Kind = TextAccessLog,
    component: Component = PROXY,
    **options: Any,
) -> list[str]:
    """What one run of `work` has written, burst by burst, without the ends of the last lines."""
    written: list[str] = []

    async def main() -> None:
        log = kind(written.append, component, **options)
        work(log)
        log.flush()

    asyncio.run(main())
    assert all(text.endswith("\n") for text in written)
    return [text[:-1] for text in written]


def message(line: str) -> str:
    return line.split(" -- ")[-1]


def test_lines_are_written_in_one_burst() -> None:
    def work(log: AccessLog) -> None:
        log.add(*entry("GET", "/a", 200, 0.5, "id-1", "app", client=("1.2.3.4", 5)))
        log.add(*entry("POST", "", 404))

    (text,) = written_by(work)
    first, second = text.split("\n")
    assert re.fullmatch(
        r"INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} proxy p1 id-1 -- GET /a 200 500\.\dms", first
    )
    assert re.fullmatch(r"INFO [-\d]+ [:\d]+,\d{3} proxy p1 -- POST  404 0\.0ms", second)


def test_nothing_new_nothing_written() -> None:
    assert written_by(lambda log: log.flush()) == []


def test_client_address_on_demand() -> None:
    def work(log: AccessLog) -> None:
        log.add(*entry(client=("1.2.3.4", 5)))
        log.add(*entry())

    (text,) = written_by(work, FullAccessLog, client_address=True)
    first, second = map(message, text.split("\n"))
    assert first.startswith("1.2.3.4:5 GET / 200 ") and second.startswith("GET / 200 ")


def test_json_has_a_field_for_everything() -> None:
    def work(log: AccessLog) -> None:
        log.add(*entry("GET", "/a", 200, 1.0, "id-1", "app", TRACEPARENT))
        log.add(*entry("CALL", "predict", "ERROR"))

    (text,) = written_by(work, JsonAccessLog, REPLICA)
    first, second = map(json.loads, text.split("\n"))
    assert first["request_id"] == "id-1" and first["application"] == "app" and first["trace_id"] == TRACE
    assert (first["method"], first["route"], first["status"]) == ("GET", "/a", 200)
    assert first["latency_ms"] == 1000.0 and first["message"] == "GET /a 200 1000.0ms"
    assert first["component_name"] == "replica" and first["replica"] == "r1" and first["levelname"] == "INFO"
    assert {"asctime", "filename", "lineno", "process", "timestamp_ns"} <= set(first)
    assert "request_id" not in second and second["status"] == "ERROR"


@pytest.mark.parametrize(
    "kind", [TextAccessLog, JsonAccessLog, FullAccessLog, partial(FullAccessLog, is_json=True)]
)
def test_a_client_cannot_forge_lines_or_columns_by_its_request_id(kind: Kind) -> None:
    def work(log: AccessLog) -> None:
        log.add(*entry(request_id="plain"))
        log.add(*entry(request_id="a -- GET /admin 200\x1b[2J\nINFO " + "x" * 1000))

    (text,) = written_by(work, kind)
    first, second = text.split("\n")
    assert "plain" in first and "a_--_GET_/admin_200_[2J_INFO_xxx" in second
    assert "\x1b" not in text and len(second) < 700


def test_lines_of_different_requests_do_not_share_what_they_say() -> None:
    said = [
        ("GET", "/a", 200),
        ("GET", "/b", 200),
        ("PUT", "/b", 200),
        ("PUT", "/b", 500),
        ("GET", "/a", 200),
    ]

    def work(log: AccessLog) -> None:
        for method, route, status in said:
            log.add(*entry(method, route, status, request_id="i"))

    (text,) = written_by(work)
    assert [message(line).rsplit(" ", 1)[0] for line in text.split("\n")] == [
        f"{m} {r} {s}" for m, r, s in said
    ]


@pytest.mark.parametrize("is_json", [False, True])
def test_the_short_way_writes_what_the_long_way_writes(
    is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[Any, ...]] = [
        ("GET", "/a", 200, 999.5, 1000.0, Asked("id-1", "app", ""), None),
        ("POST", '/"b"/{x}', 500, 998.75, 1000.0002, Asked("", "", TRACEPARENT), None),
        ("CALL", "predict", "ERROR", 1000.9987, 1001.0, Asked("id-2", "app", TRACEPARENT), ("h", 1)),
        ("GET", "/a", 200, 1002.49, 1002.5, Asked('odd "id"\n\\', "app", ""), None),
        ("GET", "/a", 200, 1002.5, 1002.5004, Asked("id-3", "app", ""), None),
    ]
    clock = [0.0]
    monkeypatch.setattr(access_log, "monotonic", lambda: clock[0])
    monkeypatch.setattr(access_log, "wall_time_s", lambda: clock[0] + 1e9)

    def lines(kind: Kind) -> list[str]:
        def work(log: AccessLog) -> None:
            for request in requests:
                clock[0] = request[4]
                log.add(*request)

        (text,) = written_by(work, kind, REPLICA)
        return text.split("\n")

    short = lines(JsonAccessLog if is_json else TextAccessLog)
    long = lines(partial(FullAccessLog, is_json=is_json))
    assert len(short) == len(requests)
    if is_json:
        assert list(map(json.loads, short)) == list(map(json.loads, long))
    else:
        assert short == long


def test_standard_attributes_that_were_asked_for() -> None:
    def work(log: AccessLog) -> None:
        log.add(*entry(request_id="id-1"))

    (text,) = written_by(work, FullAccessLog, attributes=("name", "filename"))
    assert " proxy p1 id-1 eagleray.access access_log.py -- GET / 200 " in text
    (text,) = written_by(work, FullAccessLog, attributes=("name", "created"), is_json=True)
    found = json.loads(text)
    assert found["name"] == "eagleray.access" and found["created"] * 1e9 == float(found["timestamp_ns"])


@pytest.mark.parametrize("kind", [TextAccessLog, JsonAccessLog, FullAccessLog])
def test_a_burst_is_bounded(kind: Kind) -> None:
    def work(log: AccessLog) -> None:
        for _ in range(5):
            log.add(*entry())

    assert [text.count("\n") + 1 for text in written_by(work, kind, burst=2)] == [2, 2, 1]
    assert len(written_by(work, kind, burst=1)) == 5


def test_the_timer_flushes_by_itself() -> None:
    async def main() -> None:
        written: list[str] = []
        more = asyncio.Event()

        def write(text: str) -> None:
            written.append(text)
            more.set()

        log = TextAccessLog(write, PROXY, burst=2)
        for _ in range(3):  # the third is alone in its burst
            log.add(*entry())
        while len(written) < 2:
            more.clear()
            await asyncio.wait_for(more.wait(), 30)
        log.add(*entry("PUT"))  # and the timer begins anew
        more.clear()
        await asyncio.wait_for(more.wait(), 30)
        assert [text.count("\n") for text in written] == [2, 1, 1]
        assert message(written[2]).startswith("PUT / 200 ")

    asyncio.run(main())
