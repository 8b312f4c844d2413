"""`eagleray bench` as a person runs it, against a plain server of this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.ports import free_port

QUICK = ("-w", "0s", "-n", "40", "-d", "60s", "-t", "60s")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], bytes]]
    asked: threading.Event

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if len(self.seen) > 20:
            self.asked.set()
        status = 404 if self.path.startswith("/missing") else 200
        self.wfile.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    own: type[Handler] = type("Own", (Handler,), {"seen": [], "asked": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), own) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", own
        listening.shutdown()
        thread.join()


def bench(*arguments: str, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "eagleray.cli", "bench", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "eagleray.cli", "bench", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_is_sent_is_what_was_asked_for(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    url, handler = server
    (tmp_path / "body.json").write_text('{"a": 1}')
    found = json.loads(
        bench(
            *(f"{url}/x?y=1", *QUICK, "-X", "put", "-H", "X-A: b: c", "-j", "@body.json"),
            *("--json", "--svg", "a.svg", "--ledger", "a.jsonl", "--rate", "2000", "--poisson"),
            cwd=tmp_path,
        ).stdout
    )
    assert found["answers"] == {"200": 40} and found["method"] == "PUT" and found["arrivals"] == "poisson"
    assert len(handler.seen) == 40
    for method, path, headers, body in handler.seen:
        assert (method, path, body) == ("PUT", "/x?y=1", b'{"a": 1}')
        assert headers["x-a"] == "b: c" and headers["content-type"] == "application/json"
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert sorted(line["n"] for line in lines) == list(range(40))
    assert all(line["status"] == 200 and line["ended_s"] >= line["sent_s"] for line in lines)
    ElementTree.parse(tmp_path / "a.svg")


def test_a_report_without_good_answers_fails(server: tuple[str, type[Handler]]) -> None:
    done = bench(f"{server[0]}/missing", *QUICK, "-c", "3", code=1)
    assert "404: 40" in done.stdout and "closed loop, 3 connections" in done.stdout


def test_ctrl_c_reports_what_was_measured(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    with running(url, "-d", "1h", "-w", "0s", "-r", "100", "--json") as process:
        assert handler.asked.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 130 and found["answers"]["200"] >= 10 and "Traceback" not in err


def test_ctrl_c_ends_a_search(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    with running(url, "--slo", "10s", "-d", "1h", "-r", "50", "--json") as process:
        assert handler.asked.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 130 and not found["is_finished"] and "Traceback" not in err


def test_a_terminal_shows_a_bar(server: tuple[str, type[Handler]]) -> None:
    main, other = os.openpty()
    command = [sys.executable, "-m", "eagleray.cli", "bench", server[0], *QUICK]
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other, env=environ, text=True)
    os.close(other)
    drawn = b""
    try:
        while chunk := os.read(main, 65536):
            drawn += chunk
    except OSError:  # how Linux tells that the other side has gone
        pass
    os.close(main)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "200: 40" in out
    assert "━".encode() in drawn and b"Traceback" not in drawn


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("https://localhost/",), "plain HTTP/1.1 only, not https"),
        (("localhost:8000",), "did you mean http://localhost:8000?"),
        (("http://h/", "--path", "/x"), "a URL says it all"),
        (("http://h/", "-b", "x", "-j", "{}"), "not both"),
        (("http://h/", "-j", "{"), "is no JSON"),
        (("http://h/", "-b", "@/nowhere"), "The body cannot be read"),
        (("http://h/", "-H", "no colon"), "has no colon"),
        (("http://h/", "-H", "Content-Length: 3"), "set by bench itself"),
        (("http://h/", "-d", "soon"), "is no duration: write 50ms"),
        (("http://h/", "--poisson"), "give a --rate"),
        (("http://h/", "--slo", "50ms", "-n", "3"), "goes with neither"),
        (("http://h/", "-d", "0s"), "more than nothing"),
        ((f"http://127.0.0.1:{free_port()}/",), "Nobody answers at"),
        ((f"http://{'a' * 70}/",), "is not known"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eagleray.cli", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


def test_a_ledger_that_cannot_be_written(server: tuple[str, type[Handler]]) -> None:
    told = bench(server[0], *QUICK, "--ledger", "/nowhere/a.jsonl", code=1).stderr
    assert "The ledger cannot be written" in told
    told = bench(server[0], *QUICK, "--ledger", "/dev/full", code=1).stderr
    assert "could not be written to its end" in told
