"""docs/typed-requests.md: each program is deployed, and each `curl` below it gets the answer that stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/typed-requests.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```(?:\n\n```console\n(.*?)```)?", PAGE, re.DOTALL)
LAST_CONSOLE = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)[-1]


def ask(port: int, command: str) -> str:
    """What the shell command prints; of curl's options only those that the page uses."""
    curl, _, filtered = command.partition(" | ")
    words = iter(shlex.split(curl)[1:])
    url, body, headers = "", None, {}
    for word in words:
        if word == "-H":
            name, value = next(words).split(": ")
            headers[name] = value
        elif word == "-A":
            headers["user-agent"] = next(words)
        elif word in ("-d", "--data-binary"):
            body = next(words).encode()
        else:
            url = word
    request = urllib.request.Request(
        "http://" + url.replace("localhost:8000", f"127.0.0.1:{port}"), data=body, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode()
    return pipe(text, filtered) if filtered else text


def pipe(text: str, command: str) -> str:
    arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, *arguments[1:]], input=text, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_answer_as_the_page_says(tmp_path: Path, number: int) -> None:
    program, console = PROGRAMS[number]
    with serving(tmp_path, program) as port:
        exchanges = console.strip().splitlines() + (LAST_CONSOLE.strip().splitlines() if not number else [])
        assert exchanges
        for command, answer in zip(exchanges[::2], exchanges[1::2], strict=True):
            assert command.startswith("$ curl ")
            assert ask(port, command[2:]) == answer, command
