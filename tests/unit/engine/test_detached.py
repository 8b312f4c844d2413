"""What the detached instance refuses before it touches anything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings
from eagleray.engine.detached import start_detached
from eagleray.engine.spawn import node_config


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="er-", dir="/tmp"
    ) as path:  # short: a socket's path has its limit
        yield Path(path)


@pytest.mark.parametrize("state", [{"state_home": "."}, {"state_dir": "main"}, {"state_dir": "main/state"}])
def test_state_does_not_lie_where_each_start_cleans(home: Path, state: dict[str, str]) -> None:
    kept = home / "main" / "deployed"
    kept.parent.mkdir(mode=0o700)
    kept.write_text("state of a former life")
    settings = Settings(runtime_home=str(home), **{name: str(home / path) for name, path in state.items()})
    with pytest.raises(ConfigError, match="different directories"):
        start_detached(node_config(), settings)
    assert kept.read_text() == "state of a former life"
