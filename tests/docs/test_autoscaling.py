"""The examples of docs/autoscaling.md start, the first one without a replica, and answer."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from tests.docs.program import serving

PAGE = Path(__file__).parents[2] / "docs" / "autoscaling.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_example_answers(tmp_path: Path, program: str) -> None:
    with (
        serving(tmp_path, program) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer,
    ):
        assert answer.read() == b"Hello!"
