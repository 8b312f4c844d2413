"""kill -9 before each system call that makes a file, a directory or an instance: what is left, the next one can use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault.crash import at_each_call

from eagleray.engine.linux import kill_by_environment

ROOT = Path(__file__).parents[2]
MIN_DEATHS = 8
"""Fewer would mean that calls are not seen any more."""


@pytest.fixture
def home() -> Iterator[Path]:
    """Short enough for Unix sockets."""
    path = tempfile.mkdtemp(prefix="er-")
    yield Path(path)
    kill_by_environment(at_each_call.MARK, f"{path}/one")
    shutil.rmtree(path)


@pytest.mark.parametrize("work", at_each_call.WORKS)
def test_death_before_each_call(work: str, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", at_each_call.__name__, work, str(home)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deaths = done.stdout.splitlines()
    assert len(deaths) == len(set(deaths)) >= MIN_DEATHS
