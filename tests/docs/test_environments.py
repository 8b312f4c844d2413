"""docs/environments.md: its program answers as the page says, with wheels of those versions made here."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from tests.docs.program import serving
from tests.integration.serve.test_environments import make_wheel

PAGE = (Path(__file__).parents[2] / "docs/environments.md").read_text()


def test_the_program_answers_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.1.1", "2.0.0"):
        make_wheel(tmp_path, version, "iniconfig")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("EAGLERAY_ENVIRONMENT_HOME", str(tmp_path / "environments"))
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (answer,) = re.findall(r"\$ curl \S+\n(.*?)\n```", PAGE)
    with (
        serving(tmp_path, program) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply,
    ):
        assert reply.read().decode() == answer
