"""Twenty-odd planted secrets, an instance that meets all of them, and a search through everything that it shows.

User code here never prints a secret of its own: that is nobody's to hide.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.cli.detached import Shell, shell
from tests.processes import command_of
from tests.waiting import wait_until

from eagleray.admin.routes import ROUTES

PROGRAM = """
import hashlib, os
from eagleray import serve

@serve.deployment
class Child:
    def __call__(self, secret):
        raise RuntimeError("the child fails")

@serve.deployment
class Door:
    def __init__(self, child, key):
        self.child = child
        self.key = key
    def reconfigure(self, config):
        self.config = config
    async def __call__(self, request):
        how = request.query_params.get("how")
        header = request.headers.get("authorization")
        if how == "raise":
            raise ValueError("the door fails")
        if how == "child":
            await self.child.remote(header)
        if how == "malformed":
            from starlette.responses import Response
            return Response("x", headers={"set-cookie": header + "\\n"})
        seen = [os.environ["DB_PASSWORD"], os.environ["LEVEL"], self.key, self.config["password"], self.config["url"]]
        return hashlib.sha256(" ".join(seen).encode()).hexdigest()

@serve.deployment
class Elsewhere:
    def __call__(self, request):
        return str(os.getpid())

@serve.deployment
class Broken:
    def __init__(self):
        raise ConnectionError("the database is not there")

def build(args):
    return Door.bind(Child.bind(), args["api_key"])

elsewhere = Elsewhere.bind()
broken = Broken.bind()
"""

WHAT = (
    "app_variable", "app_variable_of_another_name", "deployment_variable", "controller_variable", "argument",
    "user_config", "user_config_url", "index", "index_option", "key_password", "authorization", "cookie", "query",
    "unknown_query", "body", "api_header", "bad_token", "token_query", "own_token", "broken_variable", "broken_yaml",
    "module_url", "working_dir_url", "of_a_failed_import", "long_request_line",
)  # fmt: skip

SECRETS = {
    what: f"canary{number:02}{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    for number, what in enumerate(WHAT)
}
SECRETS["wrong_type"] = str(int(hashlib.sha256(b"wrong_type").hexdigest()[:14], 16))
REDIS = f"redis://:{SECRETS['user_config_url']}@127.0.0.1:1/0"


def config() -> dict[str, Any]:
    secret = SECRETS
    door = {
        "name": "Door",
        "user_config": {"password": secret["user_config"], "url": REDIS},
        "ray_actor_options": {"runtime_env": {"env_vars": {"LEVEL": secret["app_variable_of_another_name"]}}},
    }
    index = f"http://me:{secret['index']}@127.0.0.1:9/simple"
    other = f"http://me:{secret['index_option']}@127.0.0.1:9/simple"
    options = ["--retries", "0", "--extra-index-url", other]
    return {
        "controller_options": {"runtime_env": {"env_vars": {"KEY": secret["controller_variable"]}}},
        "http_options": {"ssl_keyfile_password": secret["key_password"]},
        "applications": [
            {
                "name": "door",
                "route_prefix": "/door",
                "import_path": "program:build",
                "args": {"api_key": secret["argument"]},
                "runtime_env": {
                    "env_vars": {"DB_PASSWORD": secret["app_variable"], "X": secret["deployment_variable"]}
                },
                "deployments": [door],
            },
            {"name": "elsewhere", "route_prefix": "/elsewhere", "import_path": "program:elsewhere"},
            {"name": "broken", "route_prefix": "/broken", "import_path": "program:broken"},
            {
                "name": "unknown",
                "route_prefix": "/unknown",
                "import_path": "program:nothing",
                "runtime_env": {"env_vars": {"A": secret["of_a_failed_import"]}},
            },
            {
                "name": "packages",
                "route_prefix": "/packages",
                "import_path": "program:elsewhere",
                "runtime_env": {
                    "pip": {
                        "packages": [f"--index-url {index}", "not-there==1"],
                        "pip_install_options": options,
                    }
                },
            },
        ],
    }


class Shown:
    """All that was shown, by where."""

    def __init__(self, user: Shell) -> None:
        self.user = user
        self.texts: dict[str, str] = {}
        (self.admin_file,) = user.home.glob("run/**/admin.token")
        (reader_file,) = user.home.glob("run/**/readonly.token")
        self.tokens = {
            "admin": self.admin_file.read_text().strip(),
            "reader": reader_file.read_text().strip(),
        }
        self.rest = (
            user.details()["controller_info"] and (self.admin_file.parent / "admin.url").read_text().strip()
        )

    def note(self, where: str, text: str) -> str:
        self.texts[where] = self.texts.get(where, "") + text
        return text

    def ask(
        self, url: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, str]:
        """Status and answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, text = reply.status, reply.read().decode() + str(reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode() + str(error.headers)
        return status, self.note(f"{method} {url.partition('?')[0]} as told", text)

    def api(
        self, path: str, method: str = "GET", body: str = "", token: str = "", **headers: str
    ) -> tuple[int, str]:
        authorization = f"Bearer {token or self.tokens['admin']}"
        return self.ask(
            self.rest + path, method, body.encode() or None, authorization=authorization, **headers
        )

    def run(self, *arguments: str) -> str:
        done = self.user.run(*arguments, code=None)
        return self.note(f"eagleray {' '.join(arguments)}", done.stdout + done.stderr)

    def look_at_processes(self) -> None:
        for pid in self.user.processes():
            with contextlib.suppress(OSError):
                self.note(f"arguments of {pid}", Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
                if command_of(pid) in ("er:node", "er:controller", "er:proxy"):
                    self.note(f"environ of {pid}", Path(f"/proc/{pid}/environ").read_text(errors="replace"))

    def look_at_files(self) -> None:
        for path in self.user.home.glob("state/**/logs/**/*"):
            if path.is_file():
                self.note(str(path), path.read_text(errors="replace"))

    def spans(self) -> str:
        """What is told of them about a second after they have ended."""
        return "".join(path.read_text() for path in self.user.home.glob("state/**/spans/*_tracing.json"))

    def found(self) -> list[str]:
        secrets = {**SECRETS, **{f"{name} token": token for name, token in self.tokens.items()}}
        return [
            f"{what} in {where}: ...{text[max(text.index(secret) - 80, 0) :][:200]}"
            for where, text in self.texts.items()
            for what, secret in secrets.items()
            if secret in text
        ]


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ |= {
            "EAGLERAY_TOKEN": SECRETS["own_token"],
            "EAGLERAY_LOG_LEVEL": "DEBUG",
            "EAGLERAY_ENVIRONMENT_HOME": f"{directory}/environments",
            "EAGLERAY_DRAIN_DELAY_S": "0",
            "EAGLERAY_TRACING_EXPORTER": "file",
            "EAGLERAY_TRACING_SAMPLING_RATIO": "1",
        }
        user.write("program.py", PROGRAM)
        user.start()
        yield Shown(user)


def expected_answer() -> str:
    secret = SECRETS
    seen = [secret["app_variable"], secret["app_variable_of_another_name"], secret["argument"]]
    return hashlib.sha256(" ".join([*seen, secret["user_config"], REDIS]).encode()).hexdigest()


def status_of(shown: Shown, name: str) -> str:
    return str(shown.user.status(name)["status"])


def deploy(shown: Shown) -> None:
    shown.user.write("config.yaml", yaml.safe_dump(config()))
    shown.run("deploy", "config.yaml")
    wait_until(lambda: status_of(shown, "door") == "RUNNING", "it runs", 60)

    def has_failed() -> bool:
        shown.look_at_processes()
        return all(status_of(shown, name) == "DEPLOY_FAILED" for name in ("unknown", "packages"))

    wait_until(has_failed, "the applications that cannot be", 120)


def use(shown: Shown) -> None:
    door = f"http://127.0.0.1:{shown.user.port}/door"
    secret = SECRETS
    headers = {
        "authorization": f"Bearer {secret['authorization']}",
        "cookie": f"session={secret['cookie']}",
        "x_api_key": secret["api_header"],
    }
    status, text = shown.ask(door, **headers)
    assert status == 200 and text.startswith(expected_answer())
    for how in ("raise", "child", "malformed"):
        url = f"{door}?how={how}&token={secret['query']}"
        assert shown.ask(url, "POST", secret["body"].encode(), **headers)[0] == 500
    assert (
        shown.ask(f"http://127.0.0.1:{shown.user.port}/none?key={secret['unknown_query']}", **headers)[0]
        == 404
    )
    assert shown.ask(f"{door}?{'x' * 20000}{secret['long_request_line']}", **headers)[0] == 414


def misuse(shown: Shown) -> None:
    secret, path = SECRETS, "/api/serve/applications/"
    assert shown.api(path, token=secret["bad_token"])[0] == 403
    assert shown.api(path, "DELETE", token=secret["bad_token"])[0] == 403
    shown.api(f"{path}?token={secret['token_query']}")
    assert shown.api(f"{path}nobody?token={secret['token_query']}", "DELETE")[0] == 404

    def app(**runtime_env: Any) -> str:
        return json.dumps({"applications": [{"import_path": "a:b", "runtime_env": runtime_env}]})

    for body in (
        app(env_vars={"A": int(secret["wrong_type"])}),
        app(env_vars={"A": {"b": secret["broken_variable"]}}),
        app(py_modules=[f"https://me:{secret['module_url']}@h/m.zip"]),
        app(working_dir=f"s3://me:{secret['working_dir_url']}@h/m.zip"),
    ):
        assert shown.api(path, "PUT", body, content_type="application/json")[0] == 400
        shown.user.write("wrong.yaml", body)
        shown.run("deploy", "wrong.yaml")
    broken = f"applications:\n- {{runtime_env: {{env_vars: {{TOKEN: {secret['broken_yaml']}, B: ]}}}}}}\n"
    assert shown.api(path, "PUT", broken, content_type="application/yaml")[0] == 400
    shown.user.write("wrong.yaml", broken)
    shown.run("deploy", "wrong.yaml")


def read_everything(shown: Shown) -> None:
    for token in shown.tokens.values():
        for route in ROUTES:
            if route.method == "GET":
                shown.api(route.path.replace("{name}", "door"), token=token)
        shown.api("/metrics", token=token)
    for arguments in (["status"], ["status", "--json"], ["status", "--details"], ["config"], ["logs", "broken"],
                      ["logs", "door"], ["logs", "packages"], ["logs", "unknown"], ["controller-health"], ["top"],
                      ["top", "--json"], ["events"]):  # fmt: skip
        shown.run(*arguments)
    assert (
        "<hidden>" in shown.texts["eagleray config"] and "the door fails" in shown.texts["eagleray logs door"]
    )
    assert "the database is not there" in shown.texts["eagleray logs broken"]
    shown.look_at_processes()
    names = "proxy_http_request", "route_to_replica", "replica_handle_request", "RuntimeError"
    wait_until(lambda: all(name in shown.spans() for name in names), "the spans")
    shown.look_at_files()


def test_no_secret_is_shown_anywhere(shown: Shown) -> None:
    assert len(SECRETS) >= 20
    deploy(shown)
    use(shown)
    misuse(shown)
    read_everything(shown)
    assert shown.found() == []
    assert len(shown.texts) > 40, sorted(shown.texts)


def test_what_is_shown_of_a_config_deploys_as_it_was(shown: Shown) -> None:
    before = shown.user.details()["applications"]["door"]["deployments"]["Door"]["replicas"]
    listed = shown.user("config")
    told = {"applications": list(yaml.safe_load_all(listed))}
    shown.user.write("again.yaml", listed)
    shown.user("deploy", "again.yaml")
    assert shown.user.details()["applications"]["door"]["deployments"]["Door"]["replicas"] == before
    for one in told["applications"]:
        if one["name"] == "door":
            one["runtime_env"]["env_vars"]["NEW"] = "1"
    shown.user.write("again.yaml", yaml.safe_dump(told))
    shown.user("deploy", "again.yaml")
    door = f"http://127.0.0.1:{shown.user.port}/door"

    def is_replaced() -> bool:
        replicas = shown.user.details()["applications"]["door"]["deployments"]["Door"]["replicas"]
        return status_of(shown, "door") == "RUNNING" and before[0] not in replicas

    wait_until(is_replaced, "the next version", 60)
    assert shown.ask(door, authorization="x")[1].startswith(expected_answer())
