"""docs/logging.md: its program logs what the page shows, its commands exist, its options and settings are ours."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import fields
from pathlib import Path

from tests.docs.program import serving
from tests.waiting import wait_until

from eagleray.base.settings import Settings
from eagleray.cli.logs import logs
from eagleray.spec.options import LoggingConfig

PAGE = (Path(__file__).parents[2] / "docs/logging.md").read_text()


def test_the_program_logs_what_is_shown(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    program = program.replace('"log_level": "DEBUG"', f'"log_level": "DEBUG", "logs_dir": {str(tmp_path)!r}')
    with serving(tmp_path, program) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
            assert reply.read() == b"hello"
        (path,) = tmp_path.glob("replica_default_Greeter_*.log")
        wait_until(lambda: path.read_text().count("\n") >= 2, "both lines")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [json.loads(line) for line in shown.splitlines()]
    for wanted, message in zip(told, ("greeting", "GET / 200"), strict=True):
        (line,) = [one for one in lines if one["message"].startswith(message)]
        assert set(wanted) - {"..."} <= set(line)
    assert set(told[0]) == set(next(one for one in lines if one["message"] == "greeting"))


def test_the_commands_exist() -> None:
    commands = re.findall(r"^\$ eagleray logs (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        logs.make_context("logs", command.split())


def test_options_and_settings_are_ours() -> None:
    for name in LoggingConfig.model_fields:
        assert f"| `{name}` |" in PAGE
    known = {f"EAGLERAY_{field.name.upper()}" for field in fields(Settings)}
    named = set(re.findall(r"EAGLERAY_[A-Z_]+", PAGE))
    assert named <= known and {one for one in known if one.startswith("EAGLERAY_LOG_")} <= named
