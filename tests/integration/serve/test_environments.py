"""`runtime_env` with real packages, archives and modules. The packages are wheels made here: no network is needed."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cli.command import get
from tests.integration.cli.detached import Shell, shell
from tests.processes import still_alive, wait_gone
from tests.waiting import wait_until

ENDLESS = "exec tail -f /dev/null"

TWO = """
from eagleray import serve

class Base:
    def __init__(self):
        import sys, tiny_env_pkg
        self.told = [tiny_env_pkg.version, sys.prefix != sys.base_prefix, tiny_env_pkg.__file__]
    def __call__(self):
        return self.told

@serve.deployment
class Old(Base): ...

@serve.deployment
class New(Base): ...

@serve.deployment
class Front:
    def __init__(self, *handles):
        self.handles = handles
    async def __call__(self, request):
        return [await handle.remote() for handle in self.handles]

app = Front.bind(Old.bind(), New.bind())
"""


def make_wheel(folder: Path, version: str, name: str = "tiny_env_pkg") -> None:
    """A package of one module, which knows its version."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def config(shell: Shell, name: str, **application: object) -> str:
    application = {"name": "app", "import_path": "two:app", **application}
    return shell.write(name, json.dumps({"applications": [application]}))


@pytest.fixture
def started(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    (home / "wheels").mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(home / "wheels", version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home / "wheels"))
    monkeypatch.setenv("EAGLERAY_ENVIRONMENT_HOME", str(home / "environments"))
    uv = home / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(
        f"#!/bin/sh\necho $$ > {home}/installer.new\nmv {home}/installer.new {home}/installer\n{ENDLESS}\n"
    )
    uv.chmod(0o700)
    monkeypatch.setenv("PATH", str(uv.parent), prepend=os.pathsep)
    with shell(home) as made:
        made.write("two.py", TWO)
        made.start()
        yield made


def wait_status(shell: Shell, status: str) -> dict[str, object]:
    def settled() -> dict[str, object] | None:
        found = shell.status("app")
        return found if found["status"] == status else None

    return wait_until(settled, status, 120.0)


def pinned(name: str, version: str) -> dict[str, object]:
    return {
        "name": name,
        "ray_actor_options": {
            "runtime_env": {
                "pip": {"packages": [f"tiny_env_pkg=={version}"], "pip_install_options": ["--no-deps"]}
            }
        },
    }


def test_two_versions_of_one_package_and_an_update_that_cannot_be_installed(started: Shell) -> None:
    started("deploy", config(started, "a.json", deployments=[pinned("Old", "1.0"), pinned("New", "2.0")]))
    wait_status(started, "RUNNING")
    url = f"http://127.0.0.1:{started.port}/"
    first, second = json.loads(get(url))
    assert first[:2] == ["1.0", True] and second[:2] == ["2.0", True]
    assert first[2].startswith(str(started.home / "environments" / "venv-"))
    assert (started.home / "environments").stat().st_mode & 0o777 == 0o700

    started("deploy", config(started, "b.json", deployments=[pinned("Old", "1.0"), pinned("New", "9.9")]))
    failed = wait_status(started, "DEPLOY_FAILED")
    message = failed["deployments"]["New"]["message"]  # type: ignore[index]
    assert "could not be installed (tiny_env_pkg==9.9)" in message, message
    assert "No matching distribution found for tiny_env_pkg==9.9" in message
    assert [one[0] for one in json.loads(get(url))] == ["1.0", "2.0"]


def test_an_installer_that_takes_long_is_told_of_and_ends_with_its_deploy(
    started: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer from outside: the `uv` that is found first."""
    options = {"uv": ["anything"], "config": {"setup_timeout_seconds": 1000}}
    endless = {"name": "Old", "ray_actor_options": {"runtime_env": options}}
    started("deploy", config(started, "e.json", deployments=[endless, pinned("New", "1.0")]))
    pid_file = started.home / "installer"

    def told() -> bool:
        message = started.status("app")["deployments"].get("Old", {}).get("message", "")
        return "Installing packages..." in message and "environment_" in message and pid_file.exists()

    wait_until(told, "word of the installer", 120.0)
    installer = int(pid_file.read_text())
    assert still_alive({installer})
    started("delete", "app", "-y")
    wait_until(lambda: not json.loads(started("status", "--json"))["applications"], "the end", 120.0)
    assert not wait_gone({installer}, 30.0)


def test_an_application_with_archives_and_modules(started: Shell) -> None:
    with zipfile.ZipFile(started.home / "code.zip", "w") as archive:
        archive.writestr("zipped.py", ZIPPED)
        archive.writestr("data/words.txt", "from the archive")
    (started.home / "helper_env").mkdir()
    started.write("helper_env/__init__.py", "name = 'helper'\n")
    environment = {
        "working_dir": "code.zip",
        "py_modules": ["helper_env", "wheels/tiny_env_pkg-1.0-py3-none-any.whl"],
        "env_vars": {"COLOUR": "green"},
    }
    started("deploy", config(started, "c.json", import_path="zipped:app", runtime_env=environment))
    wait_status(started, "RUNNING")
    told = json.loads(get(f"http://127.0.0.1:{started.port}/"))
    assert told == ["from the archive", "helper", "1.0", "green"]

    with zipfile.ZipFile(started.home / "bad.zip", "w") as archive:
        archive.writestr("../evil.py", "")
    started(
        "deploy", config(started, "d.json", import_path="zipped:app", runtime_env={"working_dir": "bad.zip"})
    )
    failed = wait_status(started, "DEPLOY_FAILED")
    assert "bad.zip" in str(failed["message"]) and "leads out of it: '../evil.py'" in str(failed["message"])
    assert json.loads(get(f"http://127.0.0.1:{started.port}/")) == told


ZIPPED = """
import os, helper_env, tiny_env_pkg
from eagleray import serve

@serve.deployment
class Show:
    def __call__(self, request):
        words = open("data/words.txt").read()
        return [words, helper_env.name, tiny_env_pkg.version, os.environ["COLOUR"]]

app = Show.bind()
"""


SCALED = """
import tiny_env_pkg
from eagleray import serve

def wanted(context):
    return 2 if tiny_env_pkg.version == "2.0" else 1

@serve.deployment(autoscaling_config={
    "max_replicas": 3, "upscale_delay_s": 0, "policy": {"policy_function": "scaled:wanted"}
})
class Scaled:
    def __call__(self):
        return tiny_env_pkg.version

app = Scaled.bind()
"""


def test_policies_run_in_the_environment_of_their_application(started: Shell) -> None:
    started.write("scaled.py", SCALED)
    pip = {"packages": ["tiny_env_pkg==2.0"], "pip_install_options": ["--no-deps"]}
    started("deploy", config(started, "s.json", import_path="scaled:app", runtime_env={"pip": pip}))
    wait_status(started, "RUNNING")

    def replicas() -> object:
        return started.status("app")["deployments"]["Scaled"]["replica_states"]

    wait_until(lambda: replicas() == {"RUNNING": 2}, "what the policy wants")
