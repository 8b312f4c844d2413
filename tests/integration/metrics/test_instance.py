"""One /metrics for a whole instance: every process is in it, and a counter survives the process that has counted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.debian import promtool
from tests.node_process import rest, running_node
from tests.processes import command_of, descendants
from tests.waiting import wait_until

from eagleray.admin.metrics_port import MAX_CONNECTIONS
from eagleray.admin.metrics_port import URL_FILE as METRICS_URL_FILE
from eagleray.admin.tokens import READ_FILE, URL_FILE
from eagleray.controller.gathering import ENDED_FILE
from eagleray.engine.spawn import NodeProcess

CODE = """
from eagleray import serve

@serve.deployment
class Hello:
    def __call__(self, request):
        return "hello"

app = Hello.bind()
"""
Labels = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home = tmp_path_factory.mktemp("m")
    with running_node(home, "hello_of_metrics", CODE, EAGLERAY_METRICS_EXPORT_PORT="0") as node:
        yield node


def scrape(node: NodeProcess, accept: str = "text/plain") -> str:
    """From the port that wants no token."""
    url = Path(node.runtime_dir, METRICS_URL_FILE).read_text().strip()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"accept": accept}), timeout=30) as reply:
        return str(reply.read().decode())


def series(node: NodeProcess, name: str) -> dict[Labels, float]:
    """All series of a sample's name."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scrape(node))
        for sample in family.samples
        if sample.name == name
    }


def deploy(node: NodeProcess, *names: str) -> None:
    instance = rest(node)
    apps = [{"name": one, "route_prefix": f"/{one}", "import_path": "hello_of_metrics:app"} for one in names]
    instance.apply({"applications": apps})

    def running() -> bool:
        found = instance.details()["applications"]
        return all(found.get(name, {}).get("status") == "RUNNING" for name in names)

    wait_until(running, what=f"{names} running", deadline_s=60)


def get(node: NodeProcess, path: str) -> str:
    (group,) = rest(node).details()["target_groups"]
    url = f"http://127.0.0.1:{group['targets'][0]['port']}{path}"
    with urllib.request.urlopen(url, timeout=30) as reply:
        return str(reply.read().decode())


def status_of(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def total(node: NodeProcess, name: str, **where: str) -> float:
    return sum(
        value
        for labels, value in series(node, name).items()
        if all(dict(labels).get(key) == wanted for key, wanted in where.items())
    )


def test_all_processes_are_in_one_text(node: NodeProcess) -> None:
    deploy(node, "a")
    get(node, "/a")
    iterations = "ray_serve_event_loop_monitoring_iterations_total"
    wait_until(
        lambda: (
            {dict(one)["component"] for one in series(node, iterations)} == {"controller", "proxy", "replica"}
        )
    )
    requests = "ray_serve_num_http_requests_total"
    wait_until(lambda: total(node, requests, application="a", status_code="200") == 1)
    wait_until(lambda: total(node, "ray_serve_deployment_request_counter_total", application="a") == 1)
    memory = series(node, "eagleray_process_resident_memory_bytes")
    assert {dict(one)["component"] for one in memory} == {"controller", "node", "proxy", "replica"}
    assert all(value > 1e6 for value in memory.values())


def test_what_the_controller_knows(node: NodeProcess) -> None:
    deploy(node, "a")
    of_d = {"application": "a", "deployment": "Hello"}
    assert total(node, "ray_serve_application_status", application="a") == 6
    assert total(node, "ray_serve_deployment_status", **of_d) == 6
    assert total(node, "ray_serve_proxy_status") == 2
    assert total(node, "ray_serve_deployment_replica_healthy", **of_d) == 1
    assert total(node, "ray_serve_replica_startup_latency_ms_count", **of_d) >= 1
    assert total(node, "ray_serve_replica_startup_latency_ms_sum", **of_d) > 0
    assert total(node, "eagleray_rollout_current_replicas", **of_d) == 1
    assert total(node, "ray_serve_long_poll_latency_ms_count", namespace="routing_table") >= 1
    assert total(node, "ray_serve_controller_num_control_loops") > 1


def test_counters_outlive_a_killed_replica(node: NodeProcess) -> None:
    deploy(node, "b")
    name, of_b = "ray_serve_deployment_request_counter_total", {"application": "b"}
    for _ in range(5):
        get(node, "/b")
    wait_until(lambda: total(node, name, **of_b) == 5)
    (before,) = rest(node).details()["applications"]["b"]["deployments"]["Hello"]["replicas"]
    os.kill(before["pid"], signal.SIGKILL)

    def is_replaced() -> bool:
        assert total(node, name, **of_b) >= 5
        replicas = rest(node).details()["applications"]["b"]["deployments"]["Hello"]["replicas"]
        return [one["state"] for one in replicas] == ["RUNNING"] and replicas[0]["pid"] != before["pid"]

    wait_until(is_replaced, deadline_s=60)
    get(node, "/b")
    wait_until(lambda: total(node, name, **of_b) == 6)
    assert len({dict(one)["replica"] for one in series(node, name) if dict(one)["application"] == "b"}) == 2


def test_a_new_controller_goes_on_where_the_last_one_was(node: NodeProcess) -> None:
    """From its first answer on: the living have told theirs, and a file those of the dead."""
    deploy(node, "c")
    get(node, "/c")
    (replica,) = rest(node).details()["applications"]["c"]["deployments"]["Hello"]["replicas"]
    name = "ray_serve_deployment_request_counter_total"
    wait_until(lambda: total(node, name, application="c") == 1)
    os.kill(replica["pid"], signal.SIGKILL)
    ended = Path(node.runtime_dir, ENDED_FILE)
    wait_until(lambda: ended.exists() and replica["replica_id"].encode() in ended.read_bytes())
    before = {one: total(node, one) for one in (name, "ray_serve_num_http_requests_total")}
    (controller,) = [pid for pid in descendants(node.pid) if command_of(pid) == "er:controller"]
    os.kill(controller, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return bool(scrape(node))
        except OSError:
            return False

    wait_until(is_back, what="the next controller", deadline_s=60)
    assert {one: total(node, one) for one in before} == before


def test_openmetrics_and_the_port_of_its_own(node: NodeProcess) -> None:
    text = scrape(node, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    families = {family.name: family.type for family in parse_openmetrics(text)}
    assert families["ray_serve_event_loop_monitoring_iterations"] == "counter"
    url = Path(node.runtime_dir, METRICS_URL_FILE).read_text().strip()
    for path, headers, status in (
        ("/", {}, 404),
        ("/api/serve/applications/", {}, 404),
        ("/metrics", {"host": "evil.example"}, 421),
        ("/metrics", {"origin": "http://evil.example"}, 403),
        ("/metrics", {"sec-fetch-site": "cross-site"}, 403),
    ):
        request = urllib.request.Request(url.removesuffix("/metrics") + path, headers=headers)
        assert status_of(request) == status
    token = Path(node.runtime_dir, READ_FILE).read_text().strip()
    base = Path(node.runtime_dir, URL_FILE).read_text().strip()
    assert status_of(urllib.request.Request(f"{base}/metrics")) == 401
    request = urllib.request.Request(f"{base}/metrics", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_promtool_accepts_it(node: NodeProcess) -> None:
    """Its parser takes all of it; what its style check has against names concerns only those that Ray has given."""
    deploy(node, "a")
    get(node, "/a")
    wait_until(lambda: total(node, "ray_serve_deployment_request_counter_total", application="a") >= 1)
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=scrape(node), capture_output=True, text=True, timeout=60
    )
    remarks = (done.stdout + done.stderr).splitlines()
    assert done.returncode in (0, 3), remarks
    ours = [one for one in remarks if not one.startswith("ray_")]
    # Milliseconds, as all of Ray's latencies: one board draws both.
    assert not [
        one for one in ours if not one.endswith("_ms metric names should not contain abbreviated units")
    ]


def test_scrapers_that_flood_or_do_not_read_leave_requests_alone(node: NodeProcess) -> None:
    """More of them than are served at once; nobody reads an answer, and each comes back when it is turned away."""
    deploy(node, "a")
    url = urlsplit(Path(node.runtime_dir, METRICS_URL_FILE).read_text().strip())
    question = f"GET /metrics HTTP/1.1\r\nhost: {url.netloc}\r\n\r\n".encode()
    scrapers: list[socket.socket] = []
    try:
        for number in range(2 * MAX_CONNECTIONS):
            scraper = socket.create_connection((url.hostname, url.port), timeout=30)
            scrapers.append(scraper)
            scraper.sendall(question * 20)
            if number % 8 == 0:
                assert get(node, "/a") == "hello"
        assert status_of(urllib.request.Request(url.geturl())) in (200, 429)
    finally:
        for scraper in scrapers:
            scraper.close()
    assert get(node, "/a") == "hello"
    wait_until(lambda: status_of(urllib.request.Request(url.geturl())) == 200)
