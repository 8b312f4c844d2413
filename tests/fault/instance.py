"""A served application in a driver of its own, `eagleray run`, and the processes under it by their roles."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes import command_of, descendants, still_alive
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Instance:
    """What `eagleray run` has started; `home` holds all its directories."""

    def __init__(self, driver: subprocess.Popen[str], home: str) -> None:
        self.driver = driver
        self.home = Path(home)
        self.host, self.port = "127.0.0.1", 0

    def read_address(self) -> None:
        assert self.driver.stdout is not None
        seen = []
        for line in self.driver.stdout:
            seen.append(line)
            if line.split()[:1] == ["App"]:
                url = urlsplit(line.split()[1])
            if line.split()[:1] == ["Stop"]:
                self.host, self.port = url.hostname or "", url.port or 0
                return
        raise AssertionError("eagleray run has ended: " + "".join(seen) + self.logs())

    def pids(self, role: str) -> set[int]:
        """Of `node`, `controller`, `proxy` or `replica`."""
        return {pid for pid in descendants(self.driver.pid) if command_of(pid) == f"er:{role}"}

    def pid(self, role: str) -> int:
        """The only one, once a builder and a predecessor have gone."""
        wait_until(lambda: len(self.pids(role)) == 1, what=f"one {role}")
        return next(iter(self.pids(role)))

    def everything(self) -> set[int]:
        return {self.driver.pid, *descendants(self.driver.pid)}

    def runtime_dirs(self) -> list[Path]:
        return list(self.home.glob("run/*"))

    def logs(self) -> str:
        return "".join(
            f"\n---- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.home.glob("state/sessions/*/logs/*.log"))
        )


@contextmanager
def serving(
    target: str = "tests.fault.served:app", folder: str = "", env: dict[str, str] | None = None
) -> Iterator[Instance]:
    """Runs `target`, found in `folder`, until the end of the block; then stops it as Ctrl-C does: nothing is left.

    `env` is added to its environment.
    """
    home = tempfile.mkdtemp(prefix="er-")
    directories = {"EAGLERAY_RUNTIME_HOME": f"{home}/run", "EAGLERAY_STATE_HOME": f"{home}/state"}
    driver = subprocess.Popen(
        [sys.executable, "-m", "eagleray.cli", "run", target, "--port", "0"],
        env=os.environ | directories | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"} | (env or {}),
        cwd=ROOT / folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert driver.stdout is not None
    instance = Instance(driver, home)
    everything = {driver.pid}
    try:
        instance.read_address()
        yield instance
        everything = instance.everything()
        driver.send_signal(signal.SIGINT)
        driver.wait(30)
        assert not still_alive(everything)
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
        shutil.rmtree(home, ignore_errors=True)
