"""The example of docs/autoscaling.md starts without a replica, and answers."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.docs.program import serving

PAGE = Path(__file__).parents[2] / "docs" / "autoscaling.md"


def test_example_wakes_for_its_first_request(tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    with (
        serving(tmp_path, program) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer,
    ):
        assert answer.read() == b"Hello!"
