"""docs/rest.md: its curl commands do what the page says, in their order, and its table is the real one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import descendants, still_alive
from tests.waiting import wait_until

from eagleray.admin.routes import ROUTES
from eagleray.admin.tokens import ADMIN_FILE, URL_FILE
from eagleray.controller.chronicle import Kind

PAGE = (Path(__file__).parents[2] / "docs/rest.md").read_text()
HELLO = """
from eagleray import serve

@serve.deployment
class Hello:
    def __call__(self, request):
        return "hello"

app = Hello.bind()
"""
DRIVER = """
import sys
import tempfile
from eagleray import serve
serve.start(http_options={"port": 0})
print("up", flush=True)
sys.stdin.read()
serve.shutdown()
"""


def curl(command: str, folder: Path, url: str, token: str) -> tuple[int, str]:
    """Status and body of a command of the page, which uses no more of curl than this."""
    words = shlex.split(command.replace("$TOKEN", token))[1:]
    request = urllib.request.Request("http://none", method="GET")
    while words:
        word = words.pop(0)
        if word == "-X":
            request.method = words.pop(0)
        elif word == "-H":
            name, value = words.pop(0).split(": ", 1)
            request.add_header(name, value)
        elif word in ("-d", "--data-binary"):
            data = words.pop(0)
            request.data = (folder / data[1:]).read_bytes() if data.startswith("@") else data.encode()
        else:
            request.full_url = word.replace("http://localhost:8265", url)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="er-") as path:
        yield Path(path)


def test_the_commands_do_what_the_page_says(home: Path) -> None:
    (console,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    commands = [line.removeprefix("$ ") for line in console.splitlines() if line.startswith("$ curl")]
    put, get, scale, put_other, delete_other, shutdown = commands
    (home / "hello.py").write_text(HELLO)
    (home / "config.yaml").write_text(config)
    own = {"EAGLERAY_RUNTIME_HOME": f"{home}/run", "EAGLERAY_STATE_HOME": f"{home}/state"}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=home,
        env=os.environ | own | {"EAGLERAY_ADMIN_PORT": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert driver.stdout is not None and driver.stdout.readline() == b"up\n"
        wait_until(lambda: list((home / "run").glob(f"*/{URL_FILE}")), "a REST server")
        (file,) = (home / "run").glob(f"*/{URL_FILE}")
        url, token = file.read_text().strip(), (file.parent / ADMIN_FILE).read_text().strip()

        def run(command: str) -> str:
            status, text = curl(command, home, url, token)
            assert status == 200, f"{command}: {status} {text}"
            return text

        def statuses() -> dict[str, str]:
            return {name: app["status"] for name, app in json.loads(run(get))["applications"].items()}

        assert run(put) == ""
        wait_until(lambda: statuses() == {"hello": "RUNNING"}, "hello", 60)
        assert "asynchronously" in run(scale)
        run(put_other)
        wait_until(lambda: statuses() == {"hello": "RUNNING", "other": "RUNNING"}, "other", 60)
        run(delete_other)
        wait_until(lambda: statuses() == {"hello": "RUNNING"}, "the end of other", 60)
        run(shutdown)
        wait_until(lambda: not still_alive(descendants(driver.pid)), "the end of the instance", 60)
        driver.communicate(timeout=30)
    finally:
        driver.kill()
        driver.wait()


def test_the_table_names_every_route() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for route in ROUTES:
        path = re.sub(r"{(\w+)}", r"<\1>", route.path)
        role = route.role.name.lower()
        assert any(f"{path}`" in row and route.method in row and role in row for row in rows), route


def test_the_table_of_events_names_every_kind() -> None:
    section = PAGE.partition("| kind |")[2]
    named = re.findall(
        r"`(\w+)`", "".join(line.split("|")[1] for line in section.splitlines() if line[:2] == "| ")
    )
    assert sorted(named) == sorted(Kind)
