from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from eagleray.base import logs
from eagleray.base.access_log import TextAccessLog
from eagleray.base.logs import Component, LogOptions
from eagleray.base.settings import Settings
from eagleray.wire.messages import CallHead

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Request:
    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id
        self.route = "/r"
        self.app_name = "app"
        self.traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"


current: ContextVar[Request] = ContextVar("current", default=Request())  # noqa: B039


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    logs.reset()


def read_json(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_text_format_is_ray_serves(tmp_path: Path) -> None:
    logs.setup(Component("default_Model", "a1b2c3d4"), path=str(tmp_path / "r.log"))
    logging.getLogger("ray.serve").warning("slow %s", "GPU")
    line = (tmp_path / "r.log").read_text()
    assert re.fullmatch(
        r"WARNING \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} default_Model a1b2c3d4 -- slow GPU\n", line
    )


def test_request_id_and_extra_attributes_stand_before_the_dashes(tmp_path: Path) -> None:
    path = tmp_path / "r.log"
    options = LogOptions(attributes=("filename",))
    logs.setup(Component("proxy", "1"), options, path=str(path), scope=current.get)
    token = current.set(Request("id-7"))
    logging.getLogger("eagleray.proxy").info("hello")
    current.reset(token)
    logging.getLogger("eagleray.proxy").info("bye")
    first, second = path.read_text().splitlines()
    assert first.endswith(" proxy 1 id-7 test_logs.py -- hello")
    assert second.endswith(" proxy 1 test_logs.py -- bye")


def test_json_says_all_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "r.log"
    component = Component("app_Model", "r1", {"component_name": "replica", "deployment": "app_Model"})
    options = LogOptions(encoding="JSON", attributes=("name",))
    logs.setup(component, options, path=str(path), scope=current.get)
    logger = logging.getLogger("ray.serve")
    token = current.set(Request("id-7"))
    logger.info("loaded %d", 3, extra={"weights": Path("/w"), "step": 2})
    current.reset(token)
    try:
        raise ValueError("no weights")
    except ValueError:
        logger.exception("failed")
    first, second = read_json(path)
    assert first["message"] == "loaded 3" and first["weights"] == "/w" and first["step"] == 2
    assert (first["request_id"], first["route"], first["application"]) == ("id-7", "/r", "app")
    assert first["trace_id"] == TRACE and first["name"] == "ray.serve" and first["deployment"] == "app_Model"
    assert first["filename"] == "test_logs.py" and first["lineno"] > 1 and first["levelname"] == "INFO"
    assert {"asctime", "process", "timestamp_ns", "component_name"} <= set(first)
    assert "request_id" not in second and "ValueError: no weights" in second["exc_text"]


def test_json_comes_out_whatever_it_holds(tmp_path: Path) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    path = tmp_path / "r.log"
    logs.setup(Component("a", "1"), LogOptions(encoding="JSON"), path=str(path))
    logger = logging.getLogger("ray.serve")
    logger.info("odd \ud800", extra={"mute": Mute(), "nested": {(1, 2): object}, "message_id": 2**70})
    (found,) = read_json(path)
    assert found["message"] == "odd \ud800" and found["mute"] == "<Mute>"


def test_tracebacks_follow_the_line(tmp_path: Path) -> None:
    logs.setup(Component("controller", "1"), path=str(tmp_path / "c.log"))
    try:
        raise ValueError("no weights")
    except ValueError:
        logging.getLogger("eagleray").exception("failed")
    text = (tmp_path / "c.log").read_text()
    assert "-- failed\nTraceback" in text and "ValueError: no weights" in text


def test_level_and_second_setup(tmp_path: Path) -> None:
    one = Component("a", "1")
    logs.setup(one, LogOptions(level="ERROR"), path=str(tmp_path / "one.log"))
    logging.getLogger("ray.serve").info("not this")
    logs.setup(one, LogOptions(level="DEBUG"), path=str(tmp_path / "two.log"))
    logging.getLogger("ray.serve").debug("this")
    assert (tmp_path / "one.log").read_text() == ""
    assert (tmp_path / "two.log").read_text().endswith("-- this\n")


def test_a_file_that_cannot_be_opened_leaves_the_former_one(tmp_path: Path) -> None:
    one = Component("a", "1")
    logs.setup(one, path=str(tmp_path / "one.log"))
    with pytest.raises(OSError, match="nowhere"):
        logs.setup(one, path=str(tmp_path / "nowhere" / "two.log"))
    logging.getLogger("eagleray").info("still here")
    assert "still here" in (tmp_path / "one.log").read_text()


def test_file_is_rotated(tmp_path: Path) -> None:
    logs.setup(Component("a", "1"), LogOptions(max_bytes=200, backups=3), path=str(tmp_path / "a.log"))
    for number in range(60):
        logging.getLogger("eagleray").info("line %d", number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def access(options: LogOptions, path: str) -> TextAccessLog:
    component = Component("a", "1")
    logs.setup(component, options, path=path)
    log = logs.open_access_log(component, options)
    assert isinstance(log, TextAccessLog)
    return log


def write_lines(log: TextAccessLog, count: int) -> None:
    async def work() -> None:
        for number in range(count):
            log.add("GET", f"/{number}", 200, 0.0, 0.0, CallHead(0))
        log.flush()

    asyncio.run(work())


def test_access_lines_stand_among_the_others_and_are_rotated_with_them(tmp_path: Path) -> None:
    log = access(LogOptions(max_bytes=2000, backups=9, burst=8), str(tmp_path / "a.log"))
    write_lines(log, 80)
    logging.getLogger("eagleray").info("the end")
    files = sorted(tmp_path.iterdir(), key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)
    assert len(files) > 2 and all(path.stat().st_size <= 2000 for path in files)
    said = [line.split(" -- ")[1] for path in files for line in path.read_text().splitlines()]
    assert said == [*(f"GET /{number} 200 0.0ms" for number in range(80)), "the end"]


def test_a_full_disk_costs_the_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(access(LogOptions(), "/dev/full"), 3)
    assert "No space left on device" in capsys.readouterr().err


def test_no_access_log_where_nobody_would_see_it(tmp_path: Path) -> None:
    one = Component("a", "1")
    assert logs.open_access_log(one, LogOptions()) is not None
    assert logs.open_access_log(one, LogOptions(level="WARNING")) is None
    assert logs.open_access_log(one, LogOptions(access_log=False)) is None


def test_access_lines_of_user_code_go_with_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    logger = logging.getLogger("ray.serve")
    for wanted in (True, False):
        logs.setup(Component("a", "1"), LogOptions(access_log=wanted), path=str(path))
        logger.info("seen: %s", wanted, extra={"serve_access_log": True})
    assert "seen: True" in path.read_text() and "seen: False" not in path.read_text()


def test_options_come_from_the_config_and_then_from_the_environment() -> None:
    settings = Settings.from_env({"RAY_SERVE_LOG_ENCODING": "json", "EAGLERAY_LOG_LEVEL": "ERROR"})
    assert LogOptions.read({}, settings).encoding == "JSON" and LogOptions.read({}, settings).level == "ERROR"
    config = {"encoding": "TEXT", "log_level": "DEBUG", "logs_dir": "/l", "enable_access_log": False}
    options = LogOptions.read(config, settings)
    assert (options.encoding, options.level, options.logs_dir) == ("TEXT", "DEBUG", "/l")
    assert not options.access_log


@pytest.mark.parametrize("encoding", ["TEXT", "JSON"])
def test_the_controller_hides_secrets_of_what_user_code_has_raised(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "c.log"
    logs.setup(Component("controller", "1"), LogOptions(encoding=encoding), path=str(path))
    logger = logging.getLogger("eagleray.controller")
    logger.error("replica-1 failed to start:\n%s", "OSError: redis://:s3cret@h:6379/?password=hunter2")
    try:
        raise OSError("Authorization: Bearer abcdefgh")
    except OSError:
        logger.exception("odd")
    text = path.read_text()
    assert "redis://<hidden>@h" in text
    assert "Bearer <hidden>" in text
    assert not re.search("s3cret|hunter2|abcdefgh", text)
