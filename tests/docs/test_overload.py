"""docs/overload.md: its program answers as the page says."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/overload.md").read_text()


def status(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        assert int(refused.headers["retry-after"]) >= 1
        return refused.code


def test_the_program_answers_as_the_page_says(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found = re.search(r"wait\n((?:\d+\n)+)```", PAGE)
    assert found is not None
    said = sorted(int(line) for line in found.group(1).split())
    with serving(tmp_path, program) as port, ThreadPoolExecutor(len(said)) as pool:
        assert sorted(pool.map(lambda _: status(port), said)) == said
