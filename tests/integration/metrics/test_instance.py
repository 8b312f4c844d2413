"""One /metrics for a whole instance: every process is in it, and a counter survives the process that has counted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.processes import descendants, still_alive
from tests.waiting import wait_until

from eagleray.admin.tokens import READ_FILE, URL_FILE
from eagleray.cli.remote import RemoteInstance
from eagleray.engine.spawn import NodeProcess, node_config, spawn_node

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
        patch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
        patch.setenv("EAGLERAY_ADMIN_PORT", "0")
        (home / "hello_of_metrics.py").write_text(CODE)
        patch.chdir(home)
        node = spawn_node(node_config(http_port=0))
        everything = {node.pid}
        try:
            wait_until(lambda: Path(node.runtime_dir, URL_FILE).exists(), what="a REST server")
            yield node
        finally:
            everything |= descendants(node.pid)
            node.close()
        assert not still_alive(everything)


def scrape(node: NodeProcess, accept: str = "text/plain") -> str:
    url = Path(node.runtime_dir, URL_FILE).read_text().strip()
    token = Path(node.runtime_dir, READ_FILE).read_text().strip()
    headers = {"authorization": f"Bearer {token}", "accept": accept}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/metrics", headers=headers), timeout=30
    ) as reply:
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
    url = Path(node.runtime_dir, URL_FILE).read_text().strip()
    instance = RemoteInstance(url)
    instance.apply(
        {
            "applications": [
                {"name": name, "route_prefix": f"/{name}", "import_path": "hello_of_metrics:app"}
                for name in names
            ]
        }
    )

    def running() -> bool:
        apps = instance.details()["applications"]
        return all(apps.get(name, {}).get("status") == "RUNNING" for name in names)

    wait_until(running, what=f"{names} running", deadline_s=60)


def test_all_processes_are_in_one_text(node: NodeProcess) -> None:
    deploy(node, "a")
    name = "ray_serve_event_loop_monitoring_iterations_total"
    wait_until(lambda: {dict(labels)["component"] for labels in series(node, name)} == {"proxy", "replica"})
    (replica,) = [one for one in map(dict, series(node, name)) if one.get("loop_type") == "user_code"]
    assert (replica["application"], replica["deployment"]) == ("a", "Hello")
    text = scrape(node, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    families = {family.name: family.type for family in parse_openmetrics(text)}
    assert families[name.removesuffix("_total")] == "counter"
