"""docs/recovery.md: its program runs."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/recovery.md").read_text()


def test_the_program_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with (
        serving(tmp_path, program) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply,
    ):
        assert reply.read() == b"ok"
