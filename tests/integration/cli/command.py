"""`eagleray run` as a person runs it: a process with its two output streams, in a directory with files of their own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import descendants, kill, still_alive, wait_gone
from tests.waiting import wait_until

DEADLINE_S = 20.0


class Stream:
    """What a process has written so far to one of its outputs."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._seen = b""

    @property
    def text(self) -> str:
        """All of it, without waiting for more."""
        while select.select([self._fd], [], [], 0)[0]:
            chunk = os.read(self._fd, 65536)
            if not chunk:
                break
            self._seen += chunk
        return self._seen.decode()


class Command:
    """One running command in `directory`."""

    def __init__(self, directory: Path, arguments: list[str], environ: dict[str, str]) -> None:
        own = {
            "EAGLERAY_RUNTIME_HOME": str(directory / "run"),
            "EAGLERAY_STATE_HOME": str(directory / "state"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eagleray.cli", "run", *arguments],
            cwd=directory,
            env=os.environ | own | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.out = Stream(self.process.stdout.fileno())
        self.err = Stream(self.process.stderr.fileno())
        self._known = {self.process.pid}

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Fails with all output when the command ends first, or it takes too long."""

        def look() -> bool:
            return condition() or self.process.poll() is not None

        try:
            wait_until(look, what, DEADLINE_S)
            assert condition(), f"the command has ended with {self.process.returncode}"
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}\n{self.out.text}\n{self.err.text}") from None

    def wait_served(self) -> str:
        """The URL of the first screen."""
        self.wait(lambda: "Stop " in self.out.text, "the first screen")
        self.remember()
        return self.out.text.split()[1]

    def remember(self) -> None:
        """Notes which processes there are, to look at the end that they have gone."""
        self._known |= descendants(self.process.pid)

    def signal(self, signum: int = signal.SIGINT) -> None:
        self.remember()
        self.process.send_signal(signum)

    def end(self) -> int:
        """Waits for the exit code, and that nothing is left."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self.remember()
            wait_gone({self.process.pid}, 0.05)
        assert self.process.poll() is not None, f"it does not end\n{self.out.text}\n{self.err.text}"
        assert not wait_gone(self._known, 2.0)
        return self.process.returncode

    def close(self) -> None:
        self.remember()
        self.process.kill()
        self.process.wait()
        kill(wait_gone(self._known, 3.0))
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def command(directory: Path, *arguments: str, **environ: str) -> Iterator[Command]:
    """Runs until the end of the block at the latest; looks that no process of it is left."""
    running = Command(directory, list(arguments), environ)
    try:
        yield running
        if running.process.poll() is None:
            running.signal()
            running.end()
        assert not still_alive(running._known)
        assert list(directory.glob("run/*")) == []
    finally:
        running.close()


def failing(directory: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and standard error of a command that is expected to end by itself, without a word on stdout."""
    with command(directory, *arguments, **environ) as running:
        code = running.end()
        assert running.out.text == ""
        return code, running.err.text


def get(url: str) -> str:
    """The body; raises AssertionError for any status but 200."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{error.code} {error.read().decode()}") from None


class Load:
    """Calls a URL over and over; every answer is kept, and what went wrong."""

    def __init__(self, url: str) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(get(self._url))
            except Exception as error:
                self.failures.append(repr(error))
