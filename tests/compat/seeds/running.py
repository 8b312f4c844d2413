"""Runs one program of a document as a person would: in a process of its own under `as_ray`, asked over HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.seeds.asking import Ask
from tests.compat.seeds.programs import Program
from tests.compat.seeds.surroundings import HOST, environment, provide
from tests.ports import free_port

DEADLINE_S = 240.0
_DRIVER = Path(__file__).with_name("stay.py")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception))\b:? ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """`is_right` is whether the program did what it is for, or said that it needs Ray."""

    is_right: bool
    said: str


def run(program: Program) -> Outcome:
    """The outcome of a complete program. Its process and its files are gone when this returns."""
    with tempfile.TemporaryDirectory(prefix="er-") as name:  # sockets need a short path
        folder = Path(name)
        (folder / "program.py").write_text(program.source)
        provide(program.source + program.start, folder)
        port = free_port()
        log = folder / "log"
        command = [sys.executable, "-m", "eagleray.as_ray", str(_DRIVER), program.start]
        if program.target:
            command = [
                sys.executable,
                "-m",
                "eagleray.cli",
                "run",
                "--as-ray",
                program.target,
                "--port",
                str(port),
            ]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(port, folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            outcome = _watch(process, program, port)
        finally:
            _end(process, is_command=bool(program.target))
        if outcome is None or not outcome.is_right:
            return _failed(log.read_text(errors="replace"), outcome)
        return outcome


def _watch(process: subprocess.Popen[str], program: Program, port: int) -> Outcome | None:
    """None where the program has failed. One that hangs is killed at the deadline, while it is asked, too."""
    assert process.stdout is not None
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["Stop"] or words == ["seed", "program", "serves"]:
                return _asked(process, program, port, by_handle=not program.target)
            if words == ["seed", "program", "ended"]:
                return Outcome(True, "ran to its end")
    finally:
        is_late = not watchdog.is_alive()
        watchdog.cancel()
    return Outcome(False, f"failed: it took longer than {DEADLINE_S:.0f} s") if is_late else None


def _asked(process: subprocess.Popen[str], program: Program, port: int, by_handle: bool) -> Outcome:
    said, right = [], True
    prefixes = _prefixes(port)
    for ask in program.asks or [Ask("", "GET", None)]:
        for app in [ask.app] if ask.app else prefixes:
            path = (prefixes[app].rstrip("/") + ask.path) or "/"
            status, text = _send(port, path, ask)
            told = f"{ask.method} {path} answered {status}"
            ok = 200 <= status < 300
            if not ok and by_handle:
                answer = _by_handle(process, app, ask)
                told += f", its handle {answer}"
                ok = answer == "answered"
            said.append(told if ok else f"{told} ({text[:80]})")
            right &= ok
    ours = " (bound by us)" if program.is_bound_by_us else ""
    said += [f"stand-ins: {', '.join(program.stood_in)}"] if program.stood_in else []
    return Outcome(right, f"{'ran' if right else 'failed'}{ours}: {'; '.join(said)}")


def _prefixes(port: int) -> dict[str, str]:
    """Application -> route prefix, without those that stand in for other hosts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/routes", timeout=60) as reply:
        routes = json.load(reply)
    return {app: prefix for prefix, app in routes.items() if not app.startswith(HOST)}


def _send(port: int, path: str, ask: Ask) -> tuple[int, str]:
    is_text = isinstance(ask.body, str)
    body = None if ask.body is None else (ask.body if is_text else json.dumps(ask.body)).encode()
    head = {} if body is None else {"content-type": "text/plain" if is_text else "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, head, method=ask.method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


def _by_handle(process: subprocess.Popen[str], app: str, ask: Ask) -> str:
    """The same request as a call: articles' classes that take a dict get one from a handle only."""
    assert process.stdin is not None and process.stdout is not None
    question: dict[str, Any] = {"app": app, "body": ask.body}
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seed handle "):
            return line.removeprefix("seed handle ").strip()
    return "the program has ended"


def _end(process: subprocess.Popen[str], is_command: bool) -> None:
    if is_command:
        process.send_signal(signal.SIGINT)
    try:
        process.communicate("" if not is_command else None, timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _failed(log: str, outcome: Outcome | None) -> Outcome:
    """Why, by what it wrote: an answer of 500 may mean that a replica needs Ray, too."""
    errors = _ERROR.findall(log)
    for kind, text in errors:
        if kind in {"NeedsRayError", "_NoSuchModuleError"}:
            return Outcome("Ray engine" in text, f"needs Ray Core: {text}")
    kind, text = errors[-1] if errors else ("it said", log.strip().rpartition("\n")[2])
    return outcome or Outcome(False, f"failed: {kind}: {text[:160]}")
