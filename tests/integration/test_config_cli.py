"""Config files by command line, end to end: start, deploy, status, config, delete, shutdown, and a power cut."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from tests.integration.cli.command import get
from tests.integration.cli.detached import Shell, shell
from tests.waiting import wait_until

from eagleray.spec.config import read_config

HELLO = """
import os
from eagleray import serve

@serve.deployment(user_config={"who": "code"})
class Hello:
    def __init__(self, greeting="hello"):
        self.greeting = greeting
    def reconfigure(self, config):
        self.who = config["who"]
    async def __call__(self, request):
        return f"{self.greeting} {self.who} {os.getpid()}"

app = Hello.bind()

def build(args):
    return Hello.bind(args["greeting"])

@serve.deployment
class Raises:
    def __init__(self):
        raise ValueError("no weights in /models")
    def __call__(self, request): ...

raises = Raises.bind()
"""

CONFIG = """
applications:
- name: first
  route_prefix: /first
  import_path: hello:app
  deployments:
  - name: Hello
    num_replicas: 2
    user_config: {who: file}
- name: second
  route_prefix: /second
  import_path: hello:build
  args: {greeting: ciao}
"""


def answer(user: Shell, path: str) -> list[str]:
    return get(f"http://127.0.0.1:{user.port}{path}").split()


def test_a_config_file_from_start_to_shutdown(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        file = user.write("c.yaml", CONFIG)
        assert "eagleray start" in user.error("status")
        assert f"127.0.0.1:{user.port}" in user.start()
        assert "runs already" in user.error("start")
        assert user("config") == "No configuration was found.\n"
        done = user.run("deploy", file, "--wait")
        assert "Deploying from config file: 'c.yaml'." in done.stdout
        assert "Sent deploy request successfully." in done.stdout
        assert "first: is running." in done.stderr and "second: is running." in done.stderr
        assert "2 of 2 replicas are up." in done.stderr
        first = answer(user, "/first")
        assert first[:2] == ["hello", "file"] and answer(user, "/second")[:2] == ["ciao", "code"]

        read = [one for one in yaml.safe_load_all(user("config")) if one]
        assert read == yaml.safe_load(CONFIG)["applications"]
        shown = yaml.safe_load(user("status"))
        assert set(shown) == {"proxies", "applications", "target_capacity"}
        assert shown["applications"]["first"]["deployments"]["Hello"]["replica_states"] == {"RUNNING": 2}
        assert yaml.safe_load(user("status", "-n", "second"))["status"] == "RUNNING"
        assert 'Application "x" does not exist.' in user.error("status", "-n", "x", code=0)

        pids = {replica["pid"] for replica in replicas(user, "first")}
        for _ in range(3):
            user("deploy", file)
        assert {replica["pid"] for replica in replicas(user, "first")} == pids

        done = user.run("delete", "first", "frist", "-y")
        assert done.stdout == "Deleted: first.\n" and 'Application "frist" does not exist.' in done.stderr
        assert "first" not in yaml.safe_load(user("status"))["applications"]
        assert 'No config has been deployed for application "first"' in user("config", "-n", "first")
        user.end()
        assert "No Serve instance found" in user.error("shutdown", "-y", code=0)
        user.start()


def replicas(user: Shell, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = user.details()["applications"][name]["deployments"]["Hello"]["replicas"]
    return found


def test_mistakes_come_at_once_and_change_nothing(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        user.start()
        user("deploy", "hello:app", "--wait")
        wrong = user.write(
            "wrong.yaml",
            "applications:\n- import_pth: hello:app\n  deployments:\n  - {name: Hello, num_replicas: 0}\n",
        )
        told = user.error("deploy", wrong).splitlines()
        assert told == [
            "Error: wrong.yaml is not valid:",
            "applications[0].import_path: is required; is 'import_pth' meant to be it?",
            "applications[0].deployments[0].num_replicas: must be greater than or equal to 1, got 0",
        ]
        assert "is no YAML" in user.error("deploy", user.write("no.yaml", "a: [b"))
        assert "is no YAML" in user.error("deploy", user.write("no.yaml", "a: 2026-02-31"))
        infinite = user.write("inf.yaml", "applications: [{import_path: 'a:b', args: {a: .inf}}]")
        assert "inf.yaml holds what JSON cannot" in user.error("deploy", infinite)
        assert "--runtime-env-json is no YAML" in user.error("deploy", "hello:app", "--runtime-env-json", "[")
        assert "cannot be specified for a config file" in user.error("deploy", wrong, "a=b")
        assert "must be of the form" in user.error("deploy", "hello:app", "ab")
        assert answer(user, "/")[:2] == ["hello", "code"]

        assert "used by application" in user.error("deploy", "hello:raises", "--name", "bad", "--merge")
        options = ["--name", "bad", "--route-prefix", "/bad", "--merge", "--wait"]
        told = user.error("deploy", "hello:raises", *options).splitlines()
        assert any(
            "a replica failed to start" in line and "ValueError: no weights in /models" in line
            for line in told
        ), told
        assert "Traceback" in user.status("bad")["deployments"]["Raises"]["message"]
        assert user.status("default")["status"] == "RUNNING", "merged: it is left alone"


ROUTED = """
applications:
- import_path: hello:app
  deployments:
  - name: Hello
    request_router_config: {request_router_class: ROUTER}
"""


def test_a_router_of_a_file_is_looked_for_before_anything_changes(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        user.write("routers.py", "from eagleray.serve.request_router import RequestRouter as Mine\n")
        user.start()
        user("deploy", user.write("c.yaml", ROUTED.replace("ROUTER", "routers.Mine")), "--wait")
        former = answer(user, "/")
        told = user.error("deploy", user.write("c.yaml", ROUTED.replace("ROUTER", "router.Mine")), "--wait")
        assert "request_router_config.request_router_class 'router:Mine' cannot be imported" in told
        status = user.status("default")
        assert status["status"] == "DEPLOY_FAILED" and "Deployment 'Hello'" in status["message"]
        assert answer(user, "/") == former
        user("deploy", user.write("c.yaml", ROUTED.replace("ROUTER", "routers:Mine")), "--wait")
        assert answer(user, "/") == former, "the same code: nothing restarts"


def test_values_that_python_takes_for_equal_are_not(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        user.start()
        for value in (1, True, 1.0):
            options = {"name": "Hello", "user_config": {"who": value}}
            data = {"applications": [{"import_path": "hello:app", "deployments": [options]}]}
            file = user.write("tabs.json", json.dumps(data, indent="\t"))
            user("deploy", file, "--wait")
            assert answer(user, "/")[:2] == ["hello", str(value)]


def test_applications_come_back_after_a_power_cut(home: Path) -> None:
    with shell(home) as user:
        user.write("hello.py", HELLO)
        file = user.write("c.yaml", CONFIG)
        user.start()
        user("deploy", file, "--wait")
        former = {str(replica["pid"]) for replica in replicas(user, "first")}
        user.kill_everything()
        assert "eagleray start" in user.error("status")
        user.start()
        wait_until(lambda: user.status("first")["status"] == "RUNNING", "first")
        wait_until(lambda: user.status("second")["status"] == "RUNNING", "second")
        greeting, who, pid = answer(user, "/first")
        assert (greeting, who) == ("hello", "file") and pid not in former
        user("deploy", file)
        assert {str(replica["pid"]) for replica in replicas(user, "first")} & {pid}


OPTIONS = """
from eagleray import serve
print("importing")

@serve.deployment(num_replicas=2, user_config={"a": [1]}, ray_actor_options={"num_cpus": 0.5})
class Parent:
    def __init__(self, child): ...
    async def __call__(self, request): return "parent"

@serve.deployment(autoscaling_config={"min_replicas": 1, "max_replicas": 3}, max_constructor_retry_count=5)
class Child: ...

app = Parent.bind(Child.bind())
other = Child.options(name="Other").bind()
"""


def test_a_config_is_built_from_code_and_deployed(home: Path) -> None:
    user = Shell(home)
    user.write("options.py", OPTIONS)
    done = user.run("build", "options:app", "options.other")
    assert done.stdout.startswith(
        "# This file was generated using the `eagleray build` command on Eagleray v"
    )
    assert done.stderr == "importing\n"
    built = yaml.safe_load(done.stdout)
    assert built["http_options"] == {"host": "0.0.0.0", "port": 8000}
    first, second = built["applications"]
    assert (first["name"], first["route_prefix"], second["route_prefix"]) == ("app1", "/app1", "/app2")
    assert first["deployments"] == [
        {
            "name": "Parent",
            "num_replicas": 2,
            "user_config": {"a": [1]},
            "ray_actor_options": {"num_cpus": 0.5},
        },
        {"name": "Child", "autoscaling_config": {"min_replicas": 1, "max_replicas": 3}},
    ]
    assert second["deployments"][0]["name"] == "Other"
    user("build", "options:app", "-o", "built.yaml")
    single = yaml.safe_load((home / "built.yaml").read_text())
    assert single["applications"][0]["route_prefix"] == "/"
    assert read_config(single).warnings == []
    assert "Did you mean 'app'?" in user.error("build", "options:ap")
