"""`eagleray logs` of a detached instance: live, rotated and dead replicas, new ones, other places, other formats."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.command import Stream, command, get
from tests.integration.cli.detached import Shell, shell
from tests.processes import kill
from tests.waiting import wait_until

PROGRAM = """
import logging, os
from eagleray import serve

logger = logging.getLogger("ray.serve")

@serve.deployment
class Talker:
    def __init__(self, child):
        logger.info("loading")
        self.child = child
    async def __call__(self, request):
        for number in range(int(request.query_params.get("lines", 0))):
            logger.info("line %d %s", number, "x" * 100)
        if request.query_params.get("pid"):
            return str(os.getpid())
        if request.query_params.get("fail"):
            raise ValueError("as asked")
        return await self.child.remote()

@serve.deployment
class Child:
    def __call__(self):
        print("the child prints")
        logger.warning("the child was asked")
        return "ok"

app = Talker.bind(Child.bind())
print("the program is imported")

@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("no weights")

broken = Broken.bind()
"""


def config(*deployments: str, more: str = "") -> str:
    options = "\n".join(f"  - {one}" for one in deployments)
    listed = f"  deployments:\n{options}\n" if deployments else ""
    return f"{more}applications:\n- name: talk\n  route_prefix: /talk\n  import_path: program:app\n{listed}"


@pytest.fixture(scope="module")
def user() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ["EAGLERAY_DRAIN_DELAY_S"] = "0"
        user.environ["EAGLERAY_LOG_ROTATE_BYTES"] = "4096"
        user.environ["EAGLERAY_LOG_BUFFER_LINES"] = "1"
        user.write("program.py", PROGRAM)
        user.start()
        user("deploy", "--wait", user.write("config.yaml", config()))
        yield user


def ask(user: Shell, query: str = "") -> str:
    return get(f"http://127.0.0.1:{user.port}/talk?{query}")


def said(text: str) -> list[str]:
    return [line.split(" -- ")[-1] for line in text.splitlines()]


def wait_said(user: Shell, wanted: str, *arguments: str) -> str:
    wait_until(lambda: wanted in user("logs", "talk", *arguments), f"'{wanted}' in the logs")
    return user("logs", "talk", *arguments)


def test_all_replicas_in_the_order_of_time_rotated_and_dead_ones_too(user: Shell) -> None:
    assert ask(user) == "ok"
    before = wait_said(user, "GET /talk 200")
    assert before.index("the program is imported") < before.index("loading") < before.index("child was asked")
    assert ask(user, "lines=100") == "ok"
    pid = int(ask(user, "pid=1"))
    kill({pid})
    wait_until(lambda: user.status("talk")["status"] == "RUNNING", "a new replica")
    assert ask(user) == "ok"
    text = wait_said(user, "line 99")
    lines = [line for line in said(text) if line.startswith("line ")]
    assert [line.split()[1] for line in lines] == [str(n) for n in range(100)], "from rotated files, in order"
    wait_until(lambda: said(user("logs", "talk", "Talker")).count("loading") == 2, "both replicas' logs")
    only = user("logs", "talk", "Child")
    assert "the child prints" in only and "loading" not in only
    assert user("logs", "talk", "-n", "3").count("\n") == 3 and user("logs", "talk", "-n", "0") == ""


def test_what_does_not_exist_is_told(user: Shell) -> None:
    assert "no application 'tolk'" in user.error("logs", "tolk") and "'talk'?" in user.error("logs", "tolk")
    assert "It has: Talker, Child" in user.error("logs", "talk", "Nobody")


@contextlib.contextmanager
def following(user: Shell, *arguments: str) -> Iterator[Stream]:
    command = [sys.executable, "-m", "eagleray.cli", "logs", "talk", "--follow", *arguments]
    process = subprocess.Popen(command, cwd=user.home, env=user.environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield Stream(process.stdout.fileno())
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_following_shows_new_replicas_another_format_and_another_place(user: Shell) -> None:
    with following(user, "-n", "1") as out:
        wait_until(lambda: out.text.count("\n") == 1, "the last line")
        assert ask(user, "lines=50") == "ok"
        wait_until(lambda: "line 49" in out.text, "lines across rotations")
        numbers = [line.split()[1] for line in said(out.text) if line.startswith("line ")]
        assert numbers == [str(n) for n in range(50)]
        pid = ask(user, "pid=1")
        logging = f"{{encoding: JSON, logs_dir: {user.home}/elsewhere}}"
        user.write("config.yaml", config(f"{{name: Talker, num_replicas: 2, logging_config: {logging}}}"))
        user("deploy", "config.yaml")
        wait_until(lambda: '"message":"loading"' in out.text, "the new replica, in JSON")
        pids: set[str] = set()
        wait_until(lambda: pids.add(ask(user, "pid=1")) or len(pids) == 2, "answers of both")  # type: ignore[func-returns-value]
        assert pid in pids, "a change of its logging did not restart the old replica"
        wait_until(lambda: out.text.count('"message":"GET /talk 200') >= 2, "their access logs")
    found = [json.loads(line) for line in user("logs", "talk").splitlines() if line.startswith("{")]
    assert {one["replica"] for one in found if one["message"].startswith("GET")} > set()
    assert list((user.home / "elsewhere").glob("replica_talk_Talker_*.log"))


def test_an_instance_that_has_failed_or_ended_can_be_read(user: Shell) -> None:
    user.write("broken.yaml", "applications: [{name: broken, import_path: 'program:broken'}]")
    user("deploy", "broken.yaml")
    wait_until(lambda: "no weights" in user.run("logs", "broken", code=None).stdout, "why it has failed")
    user("shutdown", "-y")
    assert "the child was asked" in user("logs", "talk")
    user.start()


def test_a_logging_config_of_the_whole_instance_reaches_proxies_and_controller(user: Shell) -> None:
    proxy = next(iter(user.details()["proxies"].values()))
    path, pid = Path(proxy["log_file_path"]), proxy["worker_id"]
    log = user.home / "state/main/logs/controller.log"
    user.write("config.yaml", config(more="logging_config: {encoding: JSON}\n"))
    user("deploy", "config.yaml", "--wait")

    def is_json(path: Path, message: str) -> bool:
        assert ask(user) == "ok"
        last = [line for line in path.read_text().splitlines() if message in line][-1:]
        return bool(last) and last[0].startswith("{")

    wait_until(lambda: is_json(path, "GET /talk 200"), "the proxy's access log in JSON")
    assert json.loads(path.read_text().splitlines()[-1])["component_name"] == "proxy"
    assert next(iter(user.details()["proxies"].values()))["worker_id"] == pid, "it is the same process"
    wait_until(lambda: log.read_text().splitlines()[-1].startswith("{"), "the controller's log in JSON")
    user.write("config.yaml", config(more="logging_config: {enable_access_log: false}\n"))
    user("deploy", "config.yaml", "--wait")

    def is_silent() -> bool:
        before = path.read_text()
        assert ask(user) == ask(user) == "ok"  # by the second answer the first one's line is written
        return path.read_text() == before

    wait_until(is_silent, "no access log")


def test_all_lines_on_standard_error() -> None:
    with tempfile.TemporaryDirectory(prefix="er-") as directory:
        home = Path(directory)
        (home / "program.py").write_text(PROGRAM)
        with command(home, "program:app", "--port", "0", EAGLERAY_LOG_TO_STDERR="1") as running:
            assert get(running.wait_served()) == "ok"
            running.wait(lambda: "GET / 200" in running.err.text, "the access log")
            running.signal()
            assert running.end() == 0
            told = running.err.text
        assert "the program is imported" in told and "the child prints" in told and "-- loading" in told
        assert told.count("-- loading") == 1 and "Stopping ..." in told
