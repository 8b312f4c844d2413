"""docs/observability.md has every metric, every field of JSON logs and every event, and none that there is not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.text import Text
from tests.docs.counted import PAGE, counted, documented, written
from tests.docs.render_captures import IMAGES, to_svg

from eagleray.base.access_log import JsonAccessLog
from eagleray.base.log_formats import JsonFormatter
from eagleray.cli.top import top
from eagleray.controller.chronicle import Kind
from eagleray.replica.logging import ReplicaLogs
from eagleray.wire.control import ReplicaLaunch
from eagleray.wire.messages import CallHead

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Request:
    request_id: str = "id"
    route: str = "/"
    app_name: str = "app"
    traceparent: str = TRACEPARENT


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_series_is_documented_with_its_kind_and_tags(tmp_path: Path) -> None:
    assert documented() == counted(tmp_path)


def test_no_series_is_made_elsewhere(tmp_path: Path) -> None:
    assert written() <= counted(tmp_path).keys(), "tests/docs/counted.py must make those too"


def test_every_event_is_named() -> None:
    assert sorted(re.findall(r"`([a-z]+_?[a-z_]*)`[,;.\n]", section("Events"))) == sorted(Kind)


def test_every_field_of_a_log_line_is_named() -> None:
    launch = ReplicaLaunch(app="app", deployment="D", replica_id="r", version="1")
    component = ReplicaLogs(launch, "")._component
    try:
        raise ValueError("x")
    except ValueError:
        failure = sys.exc_info()
    record = logging.LogRecord("ray.serve", logging.INFO, __file__, 1, "text", (), failure, sinfo="stack")
    lines = [JsonFormatter(component, Request).format(record)]

    async def write() -> None:
        log = JsonAccessLog(lines.append, component)
        log.add("GET", "/", 200, 0.0, 1.0, CallHead(0, "", "id", app="app", traceparent=TRACEPARENT))
        log.flush()

    asyncio.run(write())
    fields = {name for line in lines for name in json.loads(line)}
    told = section("Log fields").partition("Always:")[2]
    named = set(re.findall(r"`([a-z_]+)`", told))
    assert len(lines) == 2 and named == fields


def test_the_commands_exist() -> None:
    commands = re.findall(r"^\$ eagleray top(.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        top.make_context("top", shlex.split(command))


@pytest.mark.parametrize("name", ["top", "bench"])
def test_captures_are_small_whole_and_of_no_particular_machine(name: str) -> None:
    path = IMAGES / f"{name}.svg"
    text = path.read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg") and len(text) < 60_000
    assert "/tmp" not in text and "@font-face" not in text
    pages = [page.read_text() for page in IMAGES.parent.glob("*.md")]
    assert any(f"](images/{name}.svg)" in page for page in pages)


def test_a_capture_shows_what_was_printed() -> None:
    svg = to_svg("x", "a title", Text("what was\nprinted"))
    found = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    assert "a title" in found and "what was" in found and "printed" in found
