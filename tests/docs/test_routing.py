"""docs/routing.md: its programs run and do what the page says."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/routing.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def ask(port: int, session_id: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"x-session-id": session_id})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize(
    ("number", "answers"),
    [
        (0, [f"turn {turn} of ana" for turn in range(1, 6)]),
        (1, ["answered"] * 5),
        (2, ["its own, 2 reset"] * 3),
    ],
    ids=["sessions", "a router of your own", "a replica before the arguments"],
)
def test_the_programs_answer_as_the_page_says(tmp_path: Path, number: int, answers: list[str]) -> None:
    with serving(tmp_path, PROGRAMS[number]) as port:
        assert [ask(port, "ana") for _ in answers] == answers


def test_there_is_no_other_program() -> None:
    assert len(PROGRAMS) == 3
