"""docs/batching.md: its programs answer, and print, as the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/batching.md").read_text()
FIRST, TARGET, PLAIN = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ANSWERS, PRINTED = re.findall(r"```console\n(?:\$[^\n]*\n)?(.*?)```", PAGE, re.DOTALL)


def fetch(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return bytes(reply.read())


def test_the_first_program_batches_what_comes_together(tmp_path: Path) -> None:
    said = [json.loads(line) for line in ANSWERS.splitlines()]
    with serving(tmp_path, FIRST) as port, ThreadPoolExecutor(4) as pool:
        urls = [f"http://127.0.0.1:{port}/?text={text}" for text in ("a", "bc", "def", "ghij")]
        found = [json.loads(body) for body in pool.map(fetch, urls)]
    # How many come within 50 ms is the machine's business.
    assert [answer["length"] for answer in found] == [answer["length"] for answer in said]
    assert all(1 <= answer["batch"] <= 4 for answer in found)


def test_the_program_with_a_target_answers(tmp_path: Path) -> None:
    with serving(tmp_path, TARGET) as port, ThreadPoolExecutor(8) as pool:
        bodies = [str(number).encode() for number in range(8)]
        found = pool.map(lambda body: json.loads(fetch(f"http://127.0.0.1:{port}/", body)), bodies)
        assert list(found) == [number * number for number in range(8)]


def test_the_plain_program_prints_what_the_page_says() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == PRINTED
