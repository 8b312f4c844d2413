"""A short run of every fuzz target, always the same; `make fuzz` runs them for minutes, with seeds of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
FLAGS = ("-seed=1", "-max_len=2048", "-timeout=10", "-rss_limit_mb=1024")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is no atheris for this Python")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_clean_refusals(name: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        name,
        *FLAGS,
        "-runs=10000",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done 10000 runs" in done.stderr
