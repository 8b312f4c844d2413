"""The program in docs/large-values.md runs as it stands."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.docs.program import serving

PROGRAMS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "large-values.md").read_text(), re.DOTALL
)


def test_the_camera_answers(tmp_path: Path) -> None:
    assert len(PROGRAMS) == 1
    with serving(tmp_path, PROGRAMS[0]) as port:
        for level in (7, 8, 9):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/?level={level}", timeout=10) as reply:
                assert reply.read() == f"{level}.0".encode()
