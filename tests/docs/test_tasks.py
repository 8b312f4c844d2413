"""docs/tasks.md: its program, with its queue in the state directory."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.docs.program import serving
from tests.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
PROGRAM, SCALED = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def get(port: int, **query: str) -> Any:
    url = f"http://127.0.0.1:{port}/?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGLERAY_STATE_HOME", str(tmp_path / "state"))
    scaled = PROGRAM.replace("app = ", SCALED + "\napp = ").replace(
        "Desk.bind(Summarizer", "Desk.bind(scaled"
    )
    with serving(tmp_path, scaled) as port:
        task_id = get(port, text="First. Second.")
        ended = wait_until(
            lambda: found if (found := get(port, id=task_id))["status"] == "SUCCESS" else None, "its end"
        )
        assert ended["result"] == "First"
    assert (tmp_path / "state/tasks.db").exists()
