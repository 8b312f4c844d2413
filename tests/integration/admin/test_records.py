"""The history over REST: what is asked for, who may ask, and what a client that asks for everything is told."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.admin_server import ADMIN, READER, Serving, serving
from tests.node_process import rest, running_node
from tests.processes import command_of, descendants
from tests.waiting import wait_until

from eagleray.admin import records
from eagleray.admin.tokens import READ_FILE, URL_FILE
from eagleray.base.errors import NotRunningError
from eagleray.engine.spawn import NodeProcess

HISTORY, EVENTS = "/api/v1/history", "/api/v1/events"
CODE = """
from eagleray import serve

@serve.deployment
class Hello:
    def __call__(self, request):
        if request.url.path == "/a/bad":
            raise ValueError("no")
        return "hello"

app = Hello.bind()

@serve.deployment
class Broken:
    def __init__(self):
        raise ValueError("no weights at https://me:hush@models.example/")

broken = Broken.bind()
"""


def run(path: Path, body: Callable[[Serving], Awaitable[None]], **state: Any) -> None:
    async def main() -> None:
        async with serving(path, **state) as server:
            await body(server)

    asyncio.run(main())


def test_a_question_is_read_and_refused_with_what_is_wrong(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        answer = await server.ask(
            "GET", f"{HISTORY}?application=a%20b&deployment=D&from=-60&to=0&step=5", READER
        )
        wanted = {"application": "a b", "deployment": "D", "from_s": -60.0, "to_s": 0.0, "step_s": 5}
        assert answer.status == 200 and answer.json()["query"] == wanted
        answer = await server.ask("GET", f"{HISTORY}?step=soon", READER)
        assert answer.status == 400 and "?step= must be a number" in answer.text
        assert (await server.ask("GET", HISTORY)).status == 401
        assert (await server.ask("POST", HISTORY, ADMIN)).status == 405

        answer = await server.ask("GET", f"{EVENTS}?since=12&application=a&limit=3", READER)
        assert answer.json()["query"] == {"since": 12, "application": "a", "limit": 3}
        answer = await server.ask("GET", f"{EVENTS}?since=-1", READER)
        assert answer.status == 400 and "?since= must be a whole number" in answer.text
        assert (await server.ask("GET", EVENTS)).status == 401

    run(tmp_path, body)


def test_who_asks_for_too_much_waits_and_is_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "AT_ONCE", 100.0)
    monkeypatch.setattr(records, "LEAST", 1.0)
    monkeypatch.setattr(records, "PER_S", 1000.0)
    monkeypatch.setattr(records, "LONGEST_WAIT_S", 0.25)
    monkeypatch.setattr(records, "HELD_BACK_S", 0.05)
    monkeypatch.setattr(records, "MOST_HELD", 5)

    async def body(server: Serving) -> None:
        answers = await asyncio.gather(*(server.ask("GET", HISTORY, READER) for _ in range(50)))
        counts = {status: sum(one.status == status for one in answers) for status in (200, 429)}
        assert counts[200] >= 3 and counts[429] >= 1 and sum(counts.values()) == 50
        assert (await server.ask("GET", "/api/ray/version", READER)).status == 200

    run(tmp_path, body, history_size=100)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("m"), "hello_of_history", CODE) as node:
        app = {"name": "a", "route_prefix": "/a", "import_path": "hello_of_history:app"}
        rest(node).apply({"applications": [app]})
        wait_until(
            lambda: rest(node).details()["applications"].get("a", {}).get("status") == "RUNNING",
            what="the application",
            deadline_s=60,
        )
        yield node


def ask(node: NodeProcess, path: str) -> dict[str, Any]:
    """With the token that may only read."""
    url = Path(node.runtime_dir, URL_FILE).read_text().strip()
    token = Path(node.runtime_dir, READ_FILE).read_text().strip()
    request = urllib.request.Request(url + path, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def call(node: NodeProcess, path: str) -> int:
    (group,) = rest(node).details(routed=True)["target_groups"]
    connection = http.client.HTTPConnection("127.0.0.1", group["targets"][0]["port"], timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_requests_of_a_real_instance_are_in_its_history(node: NodeProcess) -> None:
    for _ in range(20):
        assert call(node, "/a") == 200
    assert call(node, "/a/bad") == 500

    def total(deployment: str | None, column: str) -> float:
        found = ask(node, f"{HISTORY}?application=a&from=-300&step=1")["series"]
        return sum(
            one or 0.0 for series in found if series["deployment"] == deployment for one in series[column]
        )

    for deployment in ("Hello", None):
        for column, number in (("requests_per_s", 21), ("errors_per_s", 1)):
            wait_until(
                lambda deployment=deployment, column=column, number=number: (
                    total(deployment, column) == number
                ),  # type: ignore[misc]
                what=f"{number} {column} of {deployment}",
                deadline_s=60,
            )

    def replicas() -> list[Any]:
        (series,) = ask(node, f"{HISTORY}?application=a&deployment=Hello&from=-2")["series"]
        return list(series["replicas"])

    wait_until(lambda: replicas() == [1, 1], what="one replica")


def events(node: NodeProcess, since: int = 0) -> list[dict[str, Any]]:
    return list(ask(node, f"{EVENTS}?since={since}")["events"])


def kinds(found: list[dict[str, Any]], application: str | None = "a") -> list[str]:
    return [one["kind"] for one in found if one["application"] == application]


def test_what_happens_to_an_application_is_told_with_its_cause(node: NodeProcess) -> None:
    found = events(node)
    told = kinds(found, None)
    assert told[:2] == ["controller_started", "starting"] and "ready" in told
    (applied,) = [one for one in found if one["kind"] == "config_applied"]
    assert applied["cause"] == "by the REST API"
    told = kinds(found)
    for kind in ("application_deployed", "rollout_begun", "starting", "ready", "rollout_finished"):
        assert told.count(kind) == 1, told
    assert told.index("starting") < told.index("ready") < told.index("rollout_finished")
    statuses = [one["message"] for one in found if one["kind"] == "application_status"]
    assert statuses[-1] == "DEPLOYING -> RUNNING"

    since = found[-1]["id"]
    (replica,) = rest(node).details()["applications"]["a"]["deployments"]["Hello"]["replicas"]
    os.kill(replica["pid"], signal.SIGKILL)

    def is_over() -> bool:
        found = events(node, since)
        return "ended" in kinds(found) and "UNHEALTHY -> RUNNING" in [one["message"] for one in found]

    wait_until(is_over, what="recovery", deadline_s=60)
    told = kinds(events(node, since))
    assert told.index("died") < told.index("ready")
    ended = next(one for one in events(node, since) if one["kind"] == "ended")
    assert ended["instance"] == f"replica-{replica['replica_id']}" and "SIGKILL" in ended["cause"]


def test_a_start_that_fails_is_told_without_its_secrets(node: NodeProcess) -> None:
    since = events(node)[-1]["id"]
    app = {"name": "b", "route_prefix": "/b", "import_path": "hello_of_history:broken"}
    rest(node).apply({"applications": [app]}, merge=True)
    wait_until(
        lambda: "rollout_stopped" in kinds(events(node, since), "b"), what="an end of it", deadline_s=60
    )
    failed = [one for one in events(node, since) if one["kind"] == "start_failed"]
    assert failed and all("no weights at https://" in one["cause"] for one in failed)
    assert "hush" not in json.dumps(events(node))
    rest(node).delete("b")
    wait_until(
        lambda: "application_deleted" in kinds(events(node, since), "b"), what="its deletion", deadline_s=60
    )


def test_a_command_prints_them(node: NodeProcess) -> None:
    command = [sys.executable, "-m", "eagleray.cli", "events"]
    for address in (
        f"unix:{node.runtime_dir}/controller.sock",
        Path(node.runtime_dir, URL_FILE).read_text().strip(),
    ):
        done = subprocess.run([*command, "-a", address, "a"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "DEPLOYING -> RUNNING" in done.stdout and "controller_started" not in done.stdout
        done = subprocess.run(
            [*command, "-a", address, "-n", "2", "--json"], capture_output=True, text=True, timeout=60
        )
        assert [json.loads(line) for line in done.stdout.splitlines()] == events(node)[-2:]


def test_a_new_controller_says_so_and_reads_no_former_traffic(node: NodeProcess) -> None:
    last = events(node)[-1]["id"]
    (controller,) = [pid for pid in descendants(node.pid) if command_of(pid) == "er:controller"]
    os.kill(controller, signal.SIGKILL)

    def back() -> bool:
        try:
            return rest(node).details()["applications"]["a"]["status"] == "RUNNING"
        except NotRunningError:
            return False

    wait_until(lambda: controller not in descendants(node.pid) and back(), what="a controller", deadline_s=60)
    found = ask(node, f"{EVENTS}?since={last}")
    assert found["missed"] and found["events"][0]["id"] > last
    assert found["events"][0]["kind"] == "controller_started"
    assert "has taken over" in found["events"][0]["message"]
    for _ in range(3):
        assert call(node, "/a") == 200

    def total() -> float:
        (series,) = ask(node, f"{HISTORY}?application=a&deployment=Hello&step=1")["series"] or [{}]
        return sum(one or 0.0 for one in series.get("requests_per_s", []))

    wait_until(lambda: total() == 3, what="three requests, not those before", deadline_s=60)
