"""The instance of `eagleray start` as a person has it: one command after the other, in a directory of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.processes import descendants, kill, wait_gone

from eagleray.engine.linux import kill_by_environment

TIMEOUT_S = 120


class Shell:
    """Runs commands in `home`; `port` is where the instance is to listen."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.environ = os.environ | {
            "EAGLERAY_RUNTIME_HOME": str(home / "run"),
            "EAGLERAY_STATE_HOME": str(home / "state"),
        }
        self._known: set[int] = set()

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command that is expected to end with `code`."""
        return self.run(*arguments, code=code).stdout

    def error(self, *arguments: str, code: int = 1) -> str:
        """Standard error."""
        return self.run(*arguments, code=code).stderr

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "eagleray.cli", *arguments],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert code in (None, done.returncode), (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def start(self) -> str:
        told = self("start", "--http-port", str(self.port))
        self.remember()
        return told

    def remember(self) -> None:
        """Processes that run now must be gone at the end."""
        self._known |= self.processes()

    def start_in_foreground(self) -> subprocess.Popen[bytes]:
        """Returns when it can be deployed to."""
        command = [sys.executable, "-m", "eagleray.cli", "start", "--block", "--http-port", str(self.port)]
        process = subprocess.Popen(command, cwd=self.home, env=self.environ, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == [b"Stop"]:
                break
        process.stdout.close()
        self._known |= self.processes()
        return process

    def node(self) -> int:
        """The supervisor, which is the parent of the controller."""
        controller = self.details()["controller_info"]["worker_id"]
        status = Path(f"/proc/{controller}/status").read_text()
        return int(status.partition("PPid:")[2].split()[0])

    def processes(self) -> set[int]:
        node = self.node()
        return {node, *descendants(node)}

    def kill_everything(self) -> None:
        """Power off."""
        pids = self.processes()
        kill(pids)
        assert not wait_gone(pids, 30.0)

    def details(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--details"))
        return found

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json"))["applications"][name]
        return found

    def write(self, name: str, text: str) -> str:
        (self.home / name).write_text(text)
        return name

    def end(self) -> None:
        """After it nothing of the instance may be left."""
        self("shutdown", "-y")
        assert not wait_gone(self._known, 30.0)


@contextmanager
def shell(home: Path) -> Iterator[Shell]:
    """Ends what was started, whatever happens."""
    made = Shell(home)
    try:
        yield made
        made.end()
    finally:
        kill_by_environment("EAGLERAY_RUNTIME_HOME", str(home / "run"))
