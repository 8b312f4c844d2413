from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from eagleray.base import access_log
from eagleray.base.access_log import AccessLog
from eagleray.base.log_formats import Component

PROXY = Component("proxy", "p1")
REPLICA = Component("app_Model", "r1", {"component_name": "replica", "replica": "r1"})
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def written_by(
    work: Callable[[AccessLog], None], component: Component = PROXY, **options: object
) -> list[str]:
    """What one run of `work` has written, burst by burst."""
    written: list[str] = []

    async def main() -> None:
        log = AccessLog(written.append, component, **options)  # type: ignore[arg-type]
        work(log)
        log.flush()

    asyncio.run(main())
    return written


def message(line: str) -> str:
    return line.split(" -- ")[-1]


def test_lines_are_written_in_one_burst() -> None:
    def work(log: AccessLog) -> None:
        log.add("GET", "/a", 200, monotonic() - 0.5, "id-1", "app", client=("1.2.3.4", 5))
        log.add("POST", "", 404, monotonic())

    (text,) = written_by(work)
    first, second = text.split("\n")
    assert re.fullmatch(
        r"INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} proxy p1 id-1 -- GET /a 200 5\d\d\.\dms", first
    )
    assert re.fullmatch(r"INFO [-\d]+ [:\d]+,\d{3} proxy p1 -- POST  404 \d+\.\dms", second)


def test_nothing_new_nothing_written() -> None:
    assert written_by(lambda log: log.flush()) == []


def test_client_address_on_demand() -> None:
    def work(log: AccessLog) -> None:
        log.add("GET", "/", 200, monotonic(), client=("1.2.3.4", 5))
        log.add("GET", "/", 200, monotonic())

    (text,) = written_by(work, client_address=True)
    first, second = map(message, text.split("\n"))
    assert first.startswith("1.2.3.4:5 GET / 200 ") and second.startswith("GET / 200 ")


def test_json_has_a_field_for_everything() -> None:
    def work(log: AccessLog) -> None:
        log.add("GET", "/a", 200, monotonic() - 1, "id-1", "app", f"00-{TRACE}-00f067aa0ba902b7-01")
        log.add("CALL", "predict", "ERROR", monotonic())

    (text,) = written_by(work, REPLICA, is_json=True)
    first, second = map(json.loads, text.split("\n"))
    assert first["request_id"] == "id-1" and first["application"] == "app" and first["trace_id"] == TRACE
    assert (first["method"], first["route"], first["status"]) == ("GET", "/a", 200)
    assert first["latency_ms"] >= 1000 and first["message"].startswith("GET /a 200 ")
    assert first["component_name"] == "replica" and first["replica"] == "r1" and first["levelname"] == "INFO"
    assert {"asctime", "filename", "lineno", "process", "timestamp_ns"} <= set(first)
    assert "request_id" not in second and second["status"] == "ERROR"


def test_a_client_cannot_forge_lines_or_columns_by_its_request_id() -> None:
    def work(log: AccessLog) -> None:
        log.add("GET", "/", 200, monotonic(), "a -- GET /admin 200\x1b[2J\nINFO " + "x" * 1000)

    for is_json in (False, True):
        (text,) = written_by(work, is_json=is_json)
        assert "a_--_GET_/admin_200_[2J_INFO_xxx" in text and "\n" not in text and "\x1b" not in text
        assert len(text) < 700


@pytest.mark.parametrize("is_json", [False, True])
def test_the_short_way_writes_what_the_long_way_writes(
    is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = f"00-{TRACE}-00f067aa0ba902b7-01"
    requests: list[Any] = [
        ("GET", "/a", 200, 999.5, "id-1", "app", "", None),
        ("POST", '/"b"/{x}', 500, 998.75, "", "", trace, None),
        ("CALL", "predict", "ERROR", 1000.0, "id-2", "app", trace, ("h", 1)),
        ("GET", "/a", 200, 999.5, 'odd "id"\n\\', "app", "", None),
        ("GET", "/a", 200, 999.5, "id-3", "app", "", None),
    ]

    clock = [0.0]
    monkeypatch.setattr(access_log, "monotonic", lambda: clock[0])
    monkeypatch.setattr(access_log, "wall_time_s", lambda: clock[0] + 1e9)

    def lines(is_plain: bool) -> list[str]:
        def work(log: AccessLog) -> None:
            log._is_plain = is_plain
            for at, request in zip((1000.0, 1000.0002, 1001.0, 1002.5, 1002.5004), requests, strict=True):
                clock[0] = at
                log.add(*request)

        (text,) = written_by(work, REPLICA, is_json=is_json)
        return text.split("\n")

    short, long = lines(True), lines(False)
    assert len(short) == len(requests)
    if is_json:
        assert list(map(json.loads, short)) == list(map(json.loads, long))
    else:
        assert short == long


def test_standard_attributes_that_were_asked_for() -> None:
    def work(log: AccessLog) -> None:
        log.add("GET", "/", 200, monotonic(), "id-1")

    (text,) = written_by(work, attributes=("name", "filename"))
    assert " proxy p1 id-1 eagleray.access access_log.py -- GET / 200 " in text
    (text,) = written_by(work, attributes=("name", "created"), is_json=True)
    found = json.loads(text)
    assert found["name"] == "eagleray.access" and found["created"] * 1e9 == float(found["timestamp_ns"])


def test_a_burst_is_bounded() -> None:
    def work(log: AccessLog) -> None:
        for _ in range(5):
            log.add("GET", "/", 200, monotonic())

    assert [text.count("\n") + 1 for text in written_by(work, burst=2)] == [2, 2, 1]
    assert len(written_by(work, burst=1)) == 5


def test_the_timer_flushes_by_itself() -> None:
    async def main() -> None:
        written = asyncio.get_running_loop().create_future()
        log = AccessLog(written.set_result, PROXY)
        log.add("GET", "/", 200, monotonic())
        assert message(await asyncio.wait_for(written, 30)).startswith("GET / 200 ")

    asyncio.run(main())
