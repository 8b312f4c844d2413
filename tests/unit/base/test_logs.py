from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest

from eagleray.base import logs


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    logs.reset()


def test_text_format_is_ray_serves(tmp_path: Path) -> None:
    logs.setup("default_Model", "a1b2c3d4", path=str(tmp_path / "r.log"))
    logging.getLogger("ray.serve").warning("slow %s", "GPU")
    line = (tmp_path / "r.log").read_text()
    assert re.fullmatch(
        r"WARNING \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} default_Model a1b2c3d4 -- slow GPU\n", line
    )


def test_request_id_and_extra_attributes_stand_before_the_dashes(tmp_path: Path) -> None:
    current: ContextVar[str] = ContextVar("current", default="")
    path = tmp_path / "r.log"
    logs.setup("proxy", "1", path=str(path), request_id=current.get, attributes=["filename"])
    token = current.set("id-7")
    logging.getLogger("eagleray.proxy").info("hello")
    current.reset(token)
    logging.getLogger("eagleray.proxy").info("bye")
    first, second = path.read_text().splitlines()
    assert first.endswith(" proxy 1 id-7 test_logs.py -- hello")
    assert second.endswith(" proxy 1 test_logs.py -- bye")


def test_tracebacks_follow_the_line(tmp_path: Path) -> None:
    logs.setup("controller", "1", path=str(tmp_path / "c.log"))
    try:
        raise ValueError("no weights")
    except ValueError:
        logging.getLogger("eagleray").exception("failed")
    text = (tmp_path / "c.log").read_text()
    assert "-- failed\nTraceback" in text and "ValueError: no weights" in text


def test_level_and_second_setup(tmp_path: Path) -> None:
    logs.setup("a", "1", path=str(tmp_path / "one.log"), level="ERROR")
    logging.getLogger("ray.serve").info("not this")
    logs.setup("a", "1", path=str(tmp_path / "two.log"), level="DEBUG")
    logging.getLogger("ray.serve").debug("this")
    assert (tmp_path / "one.log").read_text() == ""
    assert (tmp_path / "two.log").read_text().endswith("-- this\n")


def test_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 200)
    logs.setup("a", "1", path=str(tmp_path / "a.log"))
    for number in range(60):
        logging.getLogger("eagleray").info("line %d", number)
    assert (tmp_path / "a.log.1").exists()
    assert len(list(tmp_path.iterdir())) == 1 + logs.BACKUPS
