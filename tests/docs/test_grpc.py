"""docs/grpc.md: its service is compiled, run and called as the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.command import command
from tests.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs/grpc.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_is_true(tmp_path: Path) -> None:
    (proto,) = blocks("proto")
    server, client = blocks("python")
    commands, printed = blocks("console")
    _, protoc, run = (line.removeprefix("$ ") for line in commands.splitlines())
    (tmp_path / "hello.proto").write_text(proto)
    (tmp_path / "greeter.py").write_text(server)
    subprocess.run([sys.executable, *protoc.split()[1:]], cwd=tmp_path, check=True)
    port = str(free_port())
    with command(tmp_path, *run.split()[2:], "--port", "0", "--grpc-port", port) as running:
        running.wait_served()
        program = client.replace("9000", port)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == printed
        running.signal()
        assert running.end() == 0
