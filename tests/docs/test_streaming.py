"""docs/streaming.md: its program answers as the page says."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/streaming.md").read_text()


def test_the_program_answers_as_the_page_says(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found = re.search(r"\$ curl -N 'localhost:8000(.+)'\n(.+?)```", PAGE, re.DOTALL)
    assert found is not None
    path, answer = found.groups()
    with (
        serving(tmp_path, program) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply,
    ):
        assert reply.read().decode() == answer
