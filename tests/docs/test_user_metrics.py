"""docs/observability.md: the program with metrics of its own serves, and they are counted."""

from __future__ import annotations

import re
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.program import serving
from tests.waiting import wait_until

from eagleray.admin.metrics_port import URL_FILE

PAGE = (Path(__file__).parents[2] / "docs/observability.md").read_text()
(PROGRAM,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "metrics.Counter" in one]


@pytest.fixture
def home() -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix="er-")  # sockets want short paths
    yield Path(path)
    shutil.rmtree(path)


def test_user_metrics_are_served(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
    monkeypatch.setenv("EAGLERAY_METRICS_EXPORT_PORT", "0")
    with serving(tmp_path, PROGRAM) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", b"three short words", timeout=30) as reply:
            assert reply.read() == b"counted"
        (url,) = wait_until(lambda: list(home.glob(f"run/*/{URL_FILE}")), "a port for metrics")

        def text() -> str:
            with urllib.request.urlopen(url.read_text().strip(), timeout=30) as reply:
                return str(reply.read().decode())

        found = wait_until(lambda: text() if "ray_words_total" in text() else "", "words")
    pattern = r'ray_words_total\{deployment="Words",replica="\w+",application="default",length="5"\} (\d+)'
    assert re.findall(pattern, found) == ["3"]
    assert re.search(r"ray_text_bytes_sum\{.*\} 17\n", found)
    assert re.search(r"ray_spaces_sum\{.*\} 2\n", found)
