"""The REST server of a real instance: a config goes in, an application comes out; the client of the command line."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.processes import command_of, descendants, still_alive
from tests.waiting import wait_until

from eagleray.admin.tokens import ADMIN_FILE, READ_FILE, URL_FILE
from eagleray.base.errors import (
    ConfigError,
    EaglerayError,
    NotFoundError,
    NotRunningError,
    PreconditionError,
)
from eagleray.cli.remote import RemoteInstance, find_token
from eagleray.engine.spawn import NodeProcess, node_config, spawn_node
from eagleray.wire.control import NodeConfig

CODE = """
import os
from eagleray import serve

@serve.deployment
class Hello:
    def __call__(self, request):
        return f"hello {os.environ.get('WHO', 'you')}"

app = Hello.bind()
"""


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> NodeConfig:
    monkeypatch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
    monkeypatch.setenv("EAGLERAY_ADMIN_PORT", "0")
    monkeypatch.delenv("EAGLERAY_TOKEN", raising=False)
    monkeypatch.delenv("EAGLERAY_TOKEN_FILE", raising=False)
    (home / "hello_of_rest.py").write_text(CODE)
    monkeypatch.chdir(home)
    return node_config(http_port=0)


@pytest.fixture
def node(config: NodeConfig) -> Iterator[NodeProcess]:
    node = spawn_node(config)
    everything = {node.pid}
    try:
        wait_until(lambda: Path(node.runtime_dir, URL_FILE).exists(), what="a REST server")
        everything |= descendants(node.pid)
        yield node
    finally:
        node.close()
    assert not still_alive(everything)


def url_of(node: NodeProcess) -> str:
    return Path(node.runtime_dir, URL_FILE).read_text().strip()


def hello(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "route_prefix": f"/{name}", "import_path": "hello_of_rest:app", **keys}


def wait_running(instance: RemoteInstance, *names: str) -> None:
    def running() -> bool:
        apps = instance.details()["applications"]
        assert not any(apps[name]["status"] == "DEPLOY_FAILED" for name in names if name in apps), apps
        return all(name in apps and apps[name]["status"] == "RUNNING" for name in names)

    wait_until(running, what=f"{names} running", deadline_s=60)


def get(instance: RemoteInstance, path: str) -> str:
    """From the HTTP proxy, which the details name."""
    (group,) = instance.details()["target_groups"]
    port = group["targets"][0]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return str(reply.read().decode())


def test_a_life_by_rest(node: NodeProcess) -> None:
    instance = RemoteInstance(url_of(node))
    assert instance.version()["session_name"] == Path(node.logs_dir).parent.name
    assert instance.details()["applications"] == {}
    assert instance.apply({"applications": [hello("a"), hello("b")]}) == []
    wait_running(instance, "a", "b")
    assert get(instance, "/a") == "hello you"
    before = instance.details()["applications"]
    options = before["a"]["deployments"]["Hello"]["deployment_config"]
    assert None not in [*options.values(), *options["ray_actor_options"].values()], (
        "Ray's client takes no null"
    )
    for _ in range(50):
        assert instance.apply({"applications": [hello("a"), hello("b")]}) == []
    assert instance.details()["applications"] == before

    (warning,) = instance.apply({"applications": [hello("a"), hello("b")], "aplications": 1})
    assert "aplications" in warning
    with pytest.raises(ConfigError, match=r"applications\[0\]\.deployments\[0\]\.num_replicas"):
        instance.apply({"applications": [hello("a", deployments=[{"name": "Hello", "num_replicas": -1}])]})

    who = {"env_vars": {"WHO": "there"}}
    instance.apply_application("c", hello("c", runtime_env=who))
    instance.apply({"applications": [hello("d")]}, merge=True)
    wait_running(instance, "a", "b", "c", "d")
    assert get(instance, "/c") == "hello there"
    assert list(instance.details("imperative")["applications"]) == []

    with pytest.raises(NotFoundError, match="Application or Deployment not found"):
        instance.scale("a", "Other", 2)
    with pytest.raises(PreconditionError, match="external_scaler_enabled"):
        instance.scale("a", "Hello", 2)
    instance.apply_application("a", hello("a", external_scaler_enabled=True))
    instance.scale("a", "Hello", 2)
    wait_until(
        lambda: len(instance.details()["applications"]["a"]["deployments"]["Hello"]["replicas"]) == 2,
        deadline_s=60,
    )

    scaling = [{"name": "Hello", "autoscaling_config": {"min_replicas": 1, "max_replicas": 2}}]
    instance.apply_application("b", hello("b", deployments=scaling))
    wait_running(instance, "b")
    options = instance.details()["applications"]["b"]["deployments"]["Hello"]["deployment_config"]
    assert "num_replicas" not in options and "policy" not in options["autoscaling_config"]

    instance.delete("b")
    with pytest.raises(NotFoundError, match='Application "zz" does not exist'):
        instance.delete("zz")
    wait_until(lambda: set(instance.details()["applications"]) == {"a", "c", "d"}, deadline_s=60)
    instance.apply({"applications": [hello("d")]})
    wait_until(lambda: set(instance.details()["applications"]) == {"d"}, deadline_s=60)

    log = Path(node.logs_dir, "admin_audit.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines[-4:]] == [200, 200, 404, 200]
    assert log.stat().st_mode & 0o777 == 0o600

    instance.shutdown()
    wait_until(lambda: not node.is_alive(), what="the end of the instance", deadline_s=60)
    with pytest.raises(NotRunningError, match="eagleray start"):
        instance.details()


def test_a_new_controller_is_at_the_same_address_with_the_same_tokens(node: NodeProcess) -> None:
    url = url_of(node)
    instance = RemoteInstance(url)
    instance.apply({"applications": [hello("a")]})
    wait_running(instance, "a")
    (controller,) = [pid for pid in descendants(node.pid) if command_of(pid) == "er:controller"]
    os.kill(controller, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return instance.details()["applications"]["a"]["status"] == "RUNNING"
        except NotRunningError:
            return False

    wait_until(is_back, what="the next controller")
    assert url_of(node) == url


def test_roles_and_tokens_of_a_client(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(node)
    admin = Path(node.runtime_dir, ADMIN_FILE).read_text().strip()
    reader = Path(node.runtime_dir, READ_FILE).read_text().strip()
    assert find_token(url) == find_token(url.replace("127.0.0.1", "localhost")) == admin
    assert find_token("http://example.invalid:1") == ""
    assert RemoteInstance(url, reader).details()["applications"] == {}
    with pytest.raises(EaglerayError, match=r"may only read.*EAGLERAY_TOKEN"):
        RemoteInstance(url, reader).shutdown()
    with pytest.raises(EaglerayError, match="Missing authentication token"):
        RemoteInstance(url, "").details()
    monkeypatch.setenv("EAGLERAY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="EAGLERAY_TOKEN_FILE"):
        RemoteInstance(url)
    (tmp_path / "token").write_text(reader + "\n")
    assert find_token(url) == reader
    monkeypatch.setenv("EAGLERAY_TOKEN", admin)
    assert find_token(url) == admin


def test_replicas_do_not_inherit_a_command_lines_token(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAGLERAY_TOKEN", "s3cret")
    node = spawn_node(config)
    try:
        assert b"s3cret" not in Path(f"/proc/{node.pid}/environ").read_bytes()
    finally:
        node.close()


@pytest.mark.parametrize(
    "address", ["", "localhost:8265", "ftp://x", "http://", "http://x:y", "http://h/?a=1"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"write http://host:port"):
        RemoteInstance(address)


def test_nobody_is_there() -> None:
    with pytest.raises(NotRunningError, match="No Eagleray could be reached"):
        RemoteInstance("http://127.0.0.1:9", "x").details()
