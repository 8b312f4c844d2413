"""kill -9 round every durable write of a long scenario: the next controller finds the old state or the new one, nothing
acknowledged is lost, and no process is left without an owner.

The controller is the real one under a real node, with real proxies and replicas; it is asked by REST and by control
socket, as tools and scripts do. `tests/fault/crash/controller.py` kills it and checks each state that it leaves behind;
here the scenario goes on across its lives, and what was acknowledged must come true.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.crash import controller as mortal
from tests.processes import command_of, descendants, still_alive, wait_gone
from tests.waiting import wait_until

from eagleray.admin.tokens import ADMIN_FILE, URL_FILE
from eagleray.base.errors import EaglerayError
from eagleray.engine.local import NodeProcess, node_config, spawn_node
from eagleray.rpc.client import Client
from eagleray.spec.application import ApplicationSpec
from eagleray.wire.codec import dump_code
from eagleray.wire.control import Accepted, Deploy

ROOT = Path(__file__).parents[2]
STEPS = int(os.environ.get("STEPS", "60"))
SEED = int(os.environ.get("SEED", "1"))
DECLARED, SCALED, SCRIPTED = "declared", "scaled", "scripted"
"""Applications: by config, by config with its number of replicas from outside, by a script."""
NAMES = (DECLARED, SCALED, SCRIPTED)
CONVERGED_WITHIN_S = 120.0


class Wish:
    """What has been asked for of one application: how it must look once it is true."""

    def __init__(self, version: str, n: int, replicas: int, config: dict[str, Any] | None = None) -> None:
        self.answer = f"{version} {n}"
        self.replicas = replicas
        self.config = config


class Scenario:
    """`wishes` are those that were acknowledged."""

    def __init__(self, node: NodeProcess, home: Path) -> None:
        self.node = node
        self.home = home
        self.draw = random.Random(SEED)
        self.wishes: dict[str, Wish] = {}

    # ---- asking until somebody lives long enough to answer --------------------------------------------------------

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        def ask() -> tuple[int, bytes] | None:
            try:
                runtime_dir = Path(self.node.runtime_dir)
                port = int((runtime_dir / URL_FILE).read_text().rpartition(":")[2])
                token = (runtime_dir / ADMIN_FILE).read_text().strip()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
                    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                    reply = connection.getresponse()
                    return reply.status, reply.read()
                finally:
                    connection.close()
            except (OSError, http.client.HTTPException):
                return None

        status, text = wait_until(ask, f"an answer to {method} {path}")
        # What was deleted by somebody who died before the answer is not there the second time.
        assert status == 200 or (method == "DELETE" and status == 404), f"{method} {path}: {status} {text!r}"
        return json.loads(text) if text and status == 200 else None

    def control(self, spec: str, blob: bytes) -> None:
        message = Deploy(specs=[spec.encode()], blobs={hashlib.sha256(blob).hexdigest(): blob})

        async def ask() -> Accepted | None:
            try:
                client = await Client.connect(self.node.controller_address)
            except (OSError, EaglerayError):
                return None
            try:
                return await client.request("deploy", message, Accepted, timeout_s=30.0)
            except EaglerayError:
                return None
            finally:
                client.close()

        accepted = wait_until(lambda: asyncio.run(ask()), "an answer to a deploy")
        assert accepted.error == ""

    # ---- the scenario ---------------------------------------------------------------------------------------------

    def step(self, number: int) -> None:
        self.mark(str(number))
        actions: list[Callable[[], None]] = [self.put, self.put, self.put_all, self.deploy, self.deploy]
        if SCALED in self.wishes:
            actions.append(self.scale)
        if self.wishes:
            actions.append(self.delete)
        self.draw.choice(actions)()
        self.check_declared()
        if self.draw.random() < 0.5:
            self.wait_converged()

    def put(self) -> None:
        name = self.draw.choice((DECLARED, SCALED))
        wish = self.wish(name)
        assert wish.config is not None
        self.rest("PUT", f"/api/serve/applications/{name}", wish.config)
        self.wishes[name] = wish

    def put_all(self) -> None:
        """A whole config: what it leaves out goes, unless a script has deployed it."""
        names = self.draw.choice(((DECLARED,), (DECLARED, SCALED), (SCALED,)))
        wishes = {name: self.wish(name) for name in names}
        self.rest(
            "PUT", "/api/serve/applications/", {"applications": [one.config for one in wishes.values()]}
        )
        self.wishes = {name: one for name, one in self.wishes.items() if one.config is None} | wishes

    def wish(self, name: str) -> Wish:
        version, n, replicas = f"v{self.draw.randint(1, 2)}", self.draw.randint(1, 3), self.draw.randint(1, 2)
        options = {"name": "Model", "user_config": {"n": n}}
        config = {
            "name": name,
            "route_prefix": f"/{name}",
            "import_path": "served:build",
            "runtime_env": {"working_dir": str(Path(__file__).parent / "crash")},
            "args": {"version": version},
            "deployments": [options],
        }
        if name == DECLARED:
            options["num_replicas"] = replicas
        else:
            config["external_scaler_enabled"] = True
            replicas = self.wishes[name].replicas if name in self.wishes else 1
        return Wish(version, n, replicas, config)

    def scale(self) -> None:
        former = self.wishes[SCALED]
        path = f"/api/v1/applications/{SCALED}/deployments/Model/scale"
        self.wait_converged()  # before there is nothing to scale
        replicas = self.draw.randint(1, 3)
        self.rest("POST", path, {"target_num_replicas": replicas})
        former.replicas = replicas

    def deploy(self) -> None:
        version, n, replicas = f"v{self.draw.randint(1, 2)}", self.draw.randint(1, 3), self.draw.randint(1, 2)
        init = dump_code(((version,), {}))
        deployment = {
            "spec": {"name": "Model", "num_replicas": replicas, "user_config": {"n": n}},
            "code": {"target": "tests.fault.crash.served:Model"},
            "init": hashlib.sha256(init).hexdigest(),
            "version": version,
            "ingress": True,
        }
        spec = {"name": SCRIPTED, "route_prefix": f"/{SCRIPTED}", "deployments": [deployment]}
        self.control(ApplicationSpec.from_json(json.dumps(spec).encode()).to_json().decode(), init)
        self.wishes[SCRIPTED] = Wish(version, n, replicas)

    def delete(self) -> None:
        name = self.draw.choice(sorted(self.wishes))
        self.rest("DELETE", f"/api/serve/applications/{name}")
        del self.wishes[name]

    # ---- what must be true ----------------------------------------------------------------------------------------

    def check_declared(self) -> None:
        """What was acknowledged is known to whoever lives now, however many have died since."""
        applications = self.rest("GET", "/api/serve/applications/")["applications"]
        for name in NAMES:
            found = applications.get(name)
            if name in self.wishes:
                assert found is not None and found["status"] != "DELETING", f"{name} is lost: {found}"
                written = found["deployed_app_config"]
                assert written == self.wishes[name].config, f"{name}: {written}"
            else:
                assert found is None or found["status"] == "DELETING", f"{name} is not deleted: {found}"

    def wait_converged(self) -> None:
        missing = [""]

        def has_converged() -> bool:
            missing[0] = self.missing()
            return not missing[0]

        try:
            wait_until(has_converged, "all that was acknowledged", CONVERGED_WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {missing[0]}") from None

    def missing(self) -> str:
        """What of it is not true yet, or which process does not belong to it."""
        details = self.rest("GET", "/api/serve/applications/")
        applications = details["applications"]
        owned = [int(proxy["worker_id"]) for proxy in details["proxies"].values()]
        if set(applications) != set(self.wishes):
            return f"applications are {sorted(applications)}"
        for name, wish in self.wishes.items():
            assert applications[name]["status"] != "DEPLOY_FAILED", applications[name]
            replicas = applications[name]["deployments"].get("Model", {"replicas": []})["replicas"]
            if applications[name]["status"] != "RUNNING" or len(replicas) != wish.replicas:
                return f"{wish.replicas} replicas of {applications[name]}"
            owned += [replica["pid"] for replica in replicas]
        processes = still_alive(descendants(self.node.pid))
        others = {pid for pid in processes - set(owned) if not command_of(pid).startswith("er:tests.fault")}
        if others or not processes >= set(owned):
            return f"{owned} are owned, there are {[(pid, command_of(pid)) for pid in processes]}"
        return self.unanswered(details)

    def unanswered(self, details: Any) -> str:
        """Requests are answered by what was acknowledged last."""
        if not self.wishes:
            return ""
        target = details["target_groups"][0]["targets"][0]
        for name, wish in self.wishes.items():
            connection = http.client.HTTPConnection(target["ip"], target["port"], timeout=30)
            try:
                connection.request("GET", f"/{name}")
                answer = connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException) as error:
                answer = repr(error)
            finally:
                connection.close()
            if answer != wish.answer:
                return f"{name} answers {answer!r} and not {wish.answer!r}"
        return ""

    # ---- notes of the lives ---------------------------------------------------------------------------------------

    def mark(self, step: str) -> None:
        """Names the step, whose writes are struck; without a name none is."""
        (self.home / "step.new").write_text(step)
        (self.home / "step.new").rename(self.home / "step")

    def told(self, name: str) -> list[Any]:
        path = self.home / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    """An instance whose controller is mortal. Afterwards nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="er-"))
    (home / "step").write_text("0")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/src:{ROOT}")
    monkeypatch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
    monkeypatch.setenv("EAGLERAY_ADMIN_PORT", "0")
    every = {mortal.EVERY_POINT: "1"} if mortal.EVERY_POINT in os.environ else {}
    config = node_config(
        http_port=0,
        controller_module=mortal.__name__,
        controller_env={mortal.HOME: str(home), **every},
        # What a controller imports with the first request; a life of some milliseconds has no time for that.
        preload=["tests.fault.crash.hasty_node", mortal.__name__, "eagleray.admin.server"],
    )
    node = spawn_node(config)
    pids = {node.pid}
    try:
        yield Scenario(node, home)
        pids |= descendants(node.pid)
    finally:
        node.close()
        left = wait_gone(pids, 30.0)
        shutil.rmtree(home)
    assert not left


def test_kill_round_every_durable_write(scenario: Scenario) -> None:
    print(f"SEED={SEED}")
    for number in range(STEPS):
        scenario.step(number)
        assert scenario.told("violations") == []
    scenario.wait_converged()
    scenario.mark("")
    scenario.wait_converged()
    # A last strike may have been under way; it was followed by one more life.
    wait_until(lambda: len(scenario.told("lives")) > len(scenario.told("strikes")), "the last life")

    assert scenario.told("violations") == []
    strikes, lives = scenario.told("strikes"), scenario.told("lives")
    assert len(lives) == len(strikes) + 1, "each strike ended a life, and nothing else did"
    points = Counter(strike["point"] for strike in strikes)
    points[mortal.TORN] -= len(scenario.told("not_torn"))
    print(f"{len(lives)} lives, struck {dict(points)}")
    assert all(points[point] >= STEPS for point in mortal.POINTS)
