"""docs/config.md: its files and commands do what the page says."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from pathlib import Path

from tests.integration.cli.detached import shell

PAGE = (Path(__file__).parents[2] / "docs/config.md").read_text()


def test_the_files_and_commands_of_the_page() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (session,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = re.findall(r"^\$ eagleray (.*)$", session, re.MULTILINE)
    (url,) = re.findall(r"curl 'localhost:8000(.*)'", session)
    (said,) = re.findall(r"^(?!\$)(.+)$", session, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["start", "deploy", "status", "shutdown"]
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.write("hello.py", program)
        user.write("config.yaml", config)
        user.start()
        user(*commands[1].split())
        with urllib.request.urlopen(f"http://127.0.0.1:{user.port}{url}", timeout=30) as answer:
            assert answer.read().decode() == said
        assert "RUNNING" in user(*commands[2].split())
        user(*commands[3].split())
        user.start()
