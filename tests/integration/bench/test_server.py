"""The bench starts, awaits and ends real processes, and leaves nothing of them, not even what they orphaned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

SERVER = """
import http.server, subprocess, sys
subprocess.run([sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# The harness adopts and kills all descendants of its process, so it runs in a process of its own.
HARNESS = """
import json, os, sys, warnings
from bench import processes
from bench.server import ServerError, serving
from bench.systems.base import Launch, Workload, http_request

class Stand:
    name = title = environment = "stand"
    start_s, ends_orderly = 1.0, sys.argv[2] == "orderly"
    def launch(self, workload, port, temp_dir):
        return Launch([sys.executable, "-c", sys.argv[1], str(port)])
    def request(self, workload, size):
        return http_request(workload, size)

processes.adopt_orphans()
found = {"error": ""}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        with serving(Stand(), Workload("noop")) as server:
            found["tree"] = processes.descendants(os.getpid())
            found["ready_s"] = server.ready_s
    except ServerError as error:
        found["error"] = str(error)
found["warnings"] = [str(warning.message) for warning in caught]
found["left"] = processes.descendants(os.getpid())
print(json.dumps(found))
"""


def harness(server: str, ending: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, server, ending],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_orphan_of_a_measured_system_is_counted_noted_and_ended() -> None:
    found = harness(SERVER, "orderly")
    assert len(found["tree"]) == 2  # type: ignore[arg-type]
    assert "stand left orphans" in str(found["warnings"])
    assert "sleep 300" in str(found["warnings"])
    assert found["left"] == []


def test_tree_of_a_killed_system_is_gone() -> None:
    found = harness(SERVER, "killed")
    assert found["warnings"] == []
    assert found["left"] == []


def test_system_that_ends_before_it_answers_is_an_error_with_its_words() -> None:
    found = harness("raise SystemExit('no licence')", "orderly")
    assert "ended with 1 before it answered" in str(found["error"])
    assert "no licence" in str(found["error"])
    assert found["left"] == []
