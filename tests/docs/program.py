"""A program of the documents, running: its `app` is deployed in a driver of its own until the block ends."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

DRIVER = """
import sys
from eagleray import serve
from program import app
serve.start(http_options={{"port": {port}}})
serve.run(app)
print("up", flush=True)
sys.stdin.read()
serve.shutdown()
"""


@contextmanager
def serving(directory: Path, program: str) -> Iterator[int]:
    """The HTTP port of the program, which is written to `directory`."""
    port = free_port()
    (directory / "program.py").write_text(program)
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER.format(port=port))],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "up\n"
        yield port
        driver.communicate("", timeout=30)
        assert driver.returncode == 0
    finally:
        driver.kill()
        driver.wait()
