"""`eagleray top` as a person has it: one picture for a pipe, a live one on a terminal, by socket and by REST."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.detached import Shell, shell

DEADLINE_S = 60.0

HELLO = """
from eagleray import serve

@serve.deployment(num_replicas=2)
class Hello:
    def __call__(self, request):
        return "hello"

app = Hello.bind()
"""


(EXAMPLE,) = re.findall(
    r"## Overview\n.*?```json\n(.*?)```",
    (Path(__file__).parents[3] / "docs/rest.md").read_text(),
    re.DOTALL,
)


def keys(value: Any) -> Any:
    """The shape of JSON: keys, and of lists what the first one has."""
    if isinstance(value, dict):
        return {key: keys(one) for key, one in value.items()}
    return [keys(one) for one in value[:1]] if isinstance(value, list) else None


def config(*names: str) -> str:
    return "applications:\n" + "".join(
        f'- {{name: {name}, route_prefix: "/{name}", import_path: "hello:app"}}\n' for name in names
    )


@pytest.fixture(scope="module")
def user() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ |= {"EAGLERAY_DRAIN_DELAY_S": "0", "EAGLERAY_ADMIN_PORT": "0", "TERM": "xterm"}
        user.write("hello.py", HELLO)
        user.write("config.yaml", config("hello"))
        user.start()
        user("deploy", "config.yaml", "--wait")
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{user.port}/hello", timeout=DEADLINE_S):
                pass
        yield user


class Terminal:
    """`eagleray top` on a terminal of its own."""

    def __init__(self, user: Shell, *arguments: str) -> None:
        self.main, self.other = pty.openpty()
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.modes = termios.tcgetattr(self.other)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eagleray.cli", "top", *arguments],
            cwd=user.home,
            env=user.environ,
            stdin=self.other,
            stdout=self.other,
            stderr=self.other,
        )
        self.seen = ""

    def press(self, keys: str) -> None:
        os.write(self.main, keys.encode())

    def wait_for(self, *patterns: str) -> None:
        """Until all of it has been on the screen since the last call."""
        self.wait(lambda: all(re.search(one, self.seen) for one in patterns), str(patterns))
        self.seen = ""

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"{what} has not come: {self.seen[-3000:]!r}"
            if select.select([self.main], [], [], min(left, 0.1))[0]:
                self.seen += os.read(self.main, 65536).decode(errors="replace")

    def end(self, code: int) -> None:
        """Has it ended, and is the terminal as it was?"""
        self.wait(lambda: self.process.poll() is not None, "the end")
        assert self.process.returncode == code
        assert termios.tcgetattr(self.other) == self.modes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.main)
        os.close(self.other)


@contextmanager
def top(user: Shell, *arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(user, *arguments)
    try:
        yield terminal
    finally:
        terminal.close()


def rest(user: Shell) -> str:
    (path,) = user.home.glob("run/*/admin.url")
    return path.read_text().strip()


def test_one_picture_for_a_pipe(user: Shell) -> None:
    for arguments in ((), ("--once",), ("--once", "-a", rest(user))):
        lines = user("top", *arguments).splitlines()
        assert "1 application " in lines[0] and "2 replicas up" in lines[0]
        assert "requests/s" in lines[1] and "HTTP proxy HEALTHY" in lines[1]
        assert [line.split()[1] for line in lines[4:8]] == ["RUNNING", "HEALTHY", "RUNNING", "RUNNING"]
        assert "2/2" in lines[5] and not any("\x1b" in line for line in lines)


def test_the_picture_as_json_is_that_of_rest(user: Shell) -> None:
    found = json.loads(user("top", "--json"))
    (app,) = found["applications"]
    (hello,) = app["deployments"]
    assert (app["name"], hello["name"], len(hello["replicas"])) == ("hello", "Hello", 2)
    assert hello["saturation"] == 0.0
    told = json.loads(user("top", "--json", "-a", rest(user)))
    assert keys(told) == keys(found) == keys(json.loads(EXAMPLE))


def test_a_live_picture_goes_on_until_q(user: Shell) -> None:
    with top(user) as terminal:
        terminal.wait_for("hello", "Hello", "q quit", "0 queued")
        for request in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{user.port}/hello?{request}", timeout=DEADLINE_S):
                pass
        terminal.wait_for(r"Hello.*0\.\d", "0 queued")
        terminal.press("r\x1b[Bjk")
        terminal.wait(lambda: "\x1b[H" in terminal.seen, "another picture")
        terminal.press("rq")
        terminal.end(0)


def test_it_outlives_a_controller_and_ends_with_a_signal(user: Shell) -> None:
    with top(user, "-a", rest(user)) as remote, top(user) as local:
        for one in (remote, local):
            one.wait_for("hello", "q quit")
        os.kill(_controller(user), signal.SIGKILL)
        user.run("deploy", "--wait", user.write("config.yaml", config("hello", "again")), code=None)
        user("deploy", "--wait", "config.yaml")
        for one in (remote, local):
            one.wait_for("again")
        remote.process.send_signal(signal.SIGINT)
        remote.end(130)
        local.process.terminate()
        local.end(130)


def _controller(user: Shell) -> int:
    return int(user.details()["controller_info"]["worker_id"])


def test_nobody_there_is_an_error_at_once(user: Shell, tmp_path: Path) -> None:
    assert "No Eagleray instance is running" in user.error("top", "-a", f"unix:{tmp_path}/none.sock")
    assert "could be reached" in user.error("top", "-a", "http://127.0.0.1:9")
