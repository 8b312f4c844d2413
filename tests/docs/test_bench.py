"""docs/bench.md: its commands run against an instance, and its tables name every field of the reports."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.detached import Shell, shell

PAGE = (Path(__file__).parents[2] / "docs/bench.md").read_text()

HELLO = """
from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return "hello " + (await request.body()).decode()

app = Hello.bind()
"""

CONFIG = """
applications:
- {name: hello, route_prefix: "/", import_path: "hello:app"}
"""

SHORT = ("--duration", "0.3s", "--warm-up", "0.1s")
"""Comes after what the page says, and so instead of it."""


@pytest.fixture(scope="module")
def user() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ["EAGLERAY_DRAIN_DELAY_S"] = "0"
        user.write("hello.py", HELLO)
        user.write("config.yaml", CONFIG)
        user.start()
        user("deploy", "config.yaml", "--wait")
        yield user


def commands(port: int) -> list[list[str]]:
    lines = re.findall(r"^\$ eagleray (.*)$", PAGE, re.MULTILINE)
    return [shlex.split(line.replace(":8000", f":{port}")) for line in lines]


def fields(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def shapes(report: str) -> list[str]:
    """Its words without figures and bars."""
    words = report.partition("\n\n   ")[0]
    return re.sub(r"[\d.,]+( ?m?s)?", "#", words).split()


def test_the_first_command_reports_as_the_page_says(user: Shell) -> None:
    command = commands(user.port)[0]
    said = re.search(r"^\$ eagleray bench hello --rate .*?\n(.*?)^\$", PAGE, re.MULTILINE | re.DOTALL)
    assert said is not None
    told = user(*command)
    assert shapes(told) == shapes(said[1])
    assert "answers    200: 600" in told and f"GET http://127.0.0.1:{user.port}/" in told


def test_the_other_commands_run(user: Shell) -> None:
    _, closed, search, url = commands(user.port)
    assert "closed loop, 20 connections" in user(*closed, *SHORT)
    assert search[-2:] == ["--slo", "50ms"]
    found = json.loads(user(*url, *SHORT, "-n", "50"))
    assert found["answers"] == {"200": 50} and found["method"] == "POST"


def test_the_search_runs_and_the_page_names_its_fields(user: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eagleray.cli", *commands(user.port)[2], *SHORT, "--rate", "100", "--json"],
        env=user.environ,
        cwd=user.home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    assert found["is_finished"] and done.returncode == (found["rate"] is None), "it depends on the machine"
    about = PAGE.partition("With `--slo` the object")[2]
    assert set(found) | set(found["trials"][0]) <= fields(about)


def test_the_tables_name_every_field(user: Shell) -> None:
    table = "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))
    found = json.loads(user("bench", "hello", "-n", "5", "-w", "0s", "-r", "100", "--json"))
    assert fields(table) == set(found)
    assert set(found["points"][0]) <= fields(PAGE)
