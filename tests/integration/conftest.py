"""A directory for each test whose path is short enough for Unix sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix="er-")
    yield Path(path)
    shutil.rmtree(path)
