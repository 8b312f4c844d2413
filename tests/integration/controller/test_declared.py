"""Config files at a whole controller whose processes are make-believe: what is built, restarted, scaled and deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.decided import application
from tests.fake_engine import FakeChild
from tests.integration.controller.test_controller import Running, directory, drive

from eagleray.spec.application import ApplicationSpec
from eagleray.spec.details import (
    ApplicationDetails,
    DeploymentDetails,
    ProxyDetails,
    ReplicaDetails,
    ServeActorDetails,
    ServeInstanceDetails,
)
from eagleray.wire.changes import ScaleDeployment
from eagleray.wire.control import (
    Accepted,
    ApplyConfig,
    BuilderLaunch,
    Built,
    Deploy,
    Empty,
    JsonReply,
    decode,
)

__all__ = ["directory"]


class Declared:
    """An instance that gets config files. `code` is what builders give: deployments by application."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.engine = running.engine
        self.code: dict[str, dict[str, Any]] = {}
        self.builds: list[BuilderLaunch] = []
        self.engine.build = self._build

    def _build(self, child: FakeChild) -> Built:
        launch = decode(child.request.payload, BuilderLaunch)
        self.builds.append(launch)
        if launch.import_path == "broken:app":
            return Built(error="'broken:app' could not be loaded:\nSyntaxError: nonsense")
        version = f"v{len(self.builds)}"
        deployments = self.code.get(launch.name, {"model": {}})
        spec = application(launch.name, launch.route_prefix, version, **deployments)
        return Built(spec=spec.encode())

    async def put(self, *applications: dict[str, Any], merge: bool = False, **keys: Any) -> Accepted:
        data = {"applications": list(applications), **keys}
        message = ApplyConfig(config=json.dumps(data).encode(), merge=merge, sys_path=["/code"])
        accepted: Accepted = await self.running.ask("apply_config", message, Accepted)
        return accepted

    async def serve(self, *applications: dict[str, Any], **keys: Any) -> None:
        accepted = await self.put(*applications, **keys)
        assert accepted.error == ""
        for one in applications:
            assert (await self.running.wait(one.get("name", "default")))[-1].outcome == "running"

    async def applied(self) -> dict[str, Any]:
        reply = await self.running.ask("applied_config", Empty(), JsonReply)
        found: dict[str, Any] = json.loads(reply.body)
        return found

    def refs(self) -> set[str]:
        return {child.started.ref for child in self.engine.replicas()}


def app(name: str = "a", **keys: Any) -> dict[str, Any]:
    return {"name": name, "route_prefix": f"/{name}", "import_path": f"{name}:app", **keys}


def scene(directory: Path, scenario: Callable[[Declared], Awaitable[None]]) -> None:
    async def begin(running: Running) -> None:
        await scenario(Declared(running))

    drive(directory, begin)


def test_a_file_is_served_and_the_same_file_again_costs_nothing(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        first, second = app("a", args={"size": "big"}), app("b", runtime_env={"env_vars": {"X": "1"}})
        await declared.serve(first, second)
        one = min(declared.builds, key=lambda launch: launch.name)
        assert (one.import_path, one.args, one.sys_path) == ("a:app", {"size": "big"}, ["/code"])
        children = {child.launch.app: child for child in declared.engine.replicas()}
        assert children["b"].request.env["X"] == "1"
        before = declared.refs()
        status = await declared.running.status()
        for _ in range(1000):
            assert (await declared.put(first, second)).error == ""
        assert declared.refs() == before and len(declared.builds) == 2
        assert await declared.running.status() == status
        shown = {**second, "runtime_env": {"env_vars": {"X": "<hidden>"}}}
        assert await declared.applied() == {"a": first, "b": shown}

    scene(directory, scenario)


def test_what_is_shown_of_a_config_can_be_deployed_again(directory: Path) -> None:
    def secret(value: str, **more: str) -> dict[str, Any]:
        return app("a", runtime_env={"env_vars": {"KEY": value, **more}})

    def seen(declared: Declared) -> str:
        child = next(one for one in declared.engine.replicas() if one.launch.app == "a")
        return str(child.request.env["KEY"])

    async def scenario(declared: Declared) -> None:
        await declared.serve(secret("s3cret"))
        before, builds = declared.refs(), len(declared.builds)
        shown = list((await declared.applied()).values())
        assert shown == [secret("<hidden>")]
        assert (await declared.put(*shown)).error == ""
        assert (declared.refs(), len(declared.builds)) == (before, builds), "it is what it was"
        error = (await declared.put(secret("<hidden>", NEW="<hidden>"))).error
        assert "applications['a'].runtime_env.env_vars.NEW" in error and "write them anew" in error
        assert "env_vars.KEY" not in error
        error = (await declared.put(app("b", runtime_env={"env_vars": {"KEY": "<hidden>"}}))).error
        assert "applications['b'].runtime_env.env_vars.KEY" in error
        await declared.serve(secret("<hidden>", LEVEL="1"))
        assert seen(declared) == "s3cret", "kept beside what is new"

    scene(directory, scenario)


def test_a_large_file_of_mistakes_is_read_beside_the_loop_and_told_in_part(directory: Path) -> None:
    wrong = [
        app(f"a{n}", import_pth="x:y", deployments=[{"name": "m", "num_replicas": 0}]) for n in range(999)
    ]

    async def scenario(declared: Declared) -> None:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            spinning.append(loop.call_soon(turn))
            del spinning[:-1]

        loop = asyncio.get_running_loop()
        spinning = [loop.call_soon(turn)]
        accepted = await declared.put(*wrong)
        spinning[0].cancel()
        lines = accepted.error.splitlines()
        assert len(lines) == 102 and lines[-1] == "... and 899 more", lines[-1]
        assert lines[1].startswith("applications[0].deployments[0].num_replicas: must be greater")
        assert turns > 100, "others had their turns meanwhile"
        accepted = await declared.put(*(app(f"a{n}") for n in range(1001)))
        assert "applications: a file may have 1000 applications, got 1001" in accepted.error
        assert await declared.applied() == {}

    scene(directory, scenario)


def test_only_what_changed_is_built_and_restarted(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"), app("b"))
        before = {child.launch.app: child.started.ref for child in declared.engine.replicas()}
        await declared.serve(app("a", args={"k": "v"}), app("b"))
        after = {child.launch.app: child.started.ref for child in declared.engine.replicas()}
        assert [launch.name for launch in declared.builds[2:]] == ["a"]
        assert after["a"] != before["a"] and after["b"] == before["b"]

    scene(directory, scenario)


def test_an_override_that_is_taken_away_gives_the_codes_value_back(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        declared.code["a"] = {"model": {"user_config": {"from": "code"}, "num_replicas": 2}}
        override = {"name": "model", "user_config": {"from": "file"}, "num_replicas": 3}
        await declared.serve(app("a", deployments=[override]))
        assert len(declared.refs()) == 3
        assert {child.launch.user_config for child in declared.engine.replicas()} == {b'{"from":"file"}'}
        before = declared.refs()
        await declared.serve(app("a"))
        assert len(declared.builds) == 1 and declared.refs() < before and len(declared.refs()) == 2
        told = [child.reconfigured[-1].user_config for child in declared.engine.replicas()]
        assert told == [b'{"from":"code"}'] * 2

    scene(directory, scenario)


def test_applications_that_are_no_longer_named_go_unless_merged(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        assert await declared.running.deploy(application("script", "/script")) == ""
        await declared.serve(app("a"), app("b"))
        await declared.serve(app("c"), merge=True)
        assert set(await declared.applied()) == {"a", "b", "c"}
        await declared.serve(app("b"))
        status = await declared.running.status()
        gone = {name for name, one in status.applications.items() if one.status == "DELETING"}
        assert set(status.applications) - gone == {"b", "script"}
        assert set(await declared.applied()) == {"b"}
        assert len(declared.builds) == 3

    scene(directory, scenario)


def test_a_wrong_override_fails_its_application_only_and_is_mended_without_a_build(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        assert (await declared.put(app("a", deployments=[{"name": "modle"}]), app("b"))).error == ""
        assert (await declared.running.wait("b"))[-1].outcome == "running"
        last = (await declared.running.wait("a"))[-1]
        assert last.outcome == "failed"
        assert "Deployment 'modle' does not exist. Available: ['model']" in last.message
        await declared.serve(app("a"), app("b"))
        assert len(declared.builds) == 2
        before = declared.refs()
        await declared.put(app("a", deployments=[{"name": "x"}]), app("b"))
        status = (await declared.running.status()).applications["a"]
        assert status.status == "DEPLOY_FAILED" and declared.refs() == before

    scene(directory, scenario)


def test_a_build_that_fails_leaves_the_version_before_serving(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"))
        before = declared.refs()
        assert (await declared.put(app("a", import_path="broken:app"))).error == ""
        assert "SyntaxError" in (await declared.running.wait("a"))[-1].message
        assert declared.refs() == before
        await declared.serve(app("a"))
        assert len(declared.builds) == 3

    scene(directory, scenario)


def test_what_was_given_up_is_tried_anew_by_the_same_file(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("b"))
        declared.engine.ready_error = lambda child: (
            "ValueError: no weights" if "replica" in child.started.ref and child.launch.app == "a" else ""
        )
        assert (await declared.put(app("a"), app("b"))).error == ""
        assert (await declared.running.wait("a"))[-1].outcome == "failed"
        assert len(declared.builds) == 2
        declared.engine.ready_error = lambda child: ""
        before = {child.started.ref for child in declared.engine.replicas() if child.launch.app == "b"}
        await declared.serve(app("a"), app("b"))
        assert [launch.name for launch in declared.builds] == ["b", "a", "a"]
        await declared.serve(app("a"), app("b"))
        assert len(declared.builds) == 3 and before <= declared.refs()

    scene(directory, scenario)


def test_a_file_with_mistakes_changes_nothing(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"))
        accepted = await declared.put(app("b"), app("b", import_path="x"))
        assert "applications[1].import_path: must be of the form" in accepted.error
        assert "applications[1].name: application name 'b'" in accepted.error
        assert set(await declared.applied()) == {"a"}
        assert await declared.running.deploy(application("script", "/script")) == ""
        accepted = await declared.put(app("c", route_prefix="/script"))
        assert 'Prefix /script is being used by application "script"' in accepted.error
        accepted = await declared.put(app("a", import_pat="x"), http_options={"port": 1})
        assert accepted.error == ""
        first, second = accepted.warnings
        assert first.startswith("applications[0].import_pat: this key is unknown and is ignored")
        assert second.startswith("http_options.port: is fixed when the instance starts, where it is 8123")

    scene(directory, scenario)


def test_a_config_that_changes_while_its_code_is_built(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        override = {"name": "model", "num_replicas": 2}
        last = app("a", route_prefix="/y", deployments=[override])
        for one in (app("a"), app("a", route_prefix="/z"), last):
            assert (await declared.put(one)).error == ""
        assert "Prefix /y is being used" in await declared.running.deploy(application("script", "/y"))
        assert (await declared.running.wait("a"))[-1].outcome == "running"
        assert len(declared.builds) == 1 and len(declared.refs()) == 2
        assert (await declared.applied())["a"] == last

    scene(directory, scenario)


def test_prefixes_may_be_exchanged(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"), app("b"))
        await declared.serve(app("a", route_prefix="/b"), app("b", route_prefix="/a"))
        assert len(declared.builds) == 2

    scene(directory, scenario)


def test_target_capacity_scales_and_comes_back(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        declared.code["a"] = {"model": {"num_replicas": 4}, "other": {"num_replicas": 1}}
        await declared.serve(app("a"), target_capacity=50)
        counts = [child.launch.deployment for child in declared.engine.replicas()]
        assert sorted(counts) == ["model", "model", "other"]
        assert (await declared.running.status()).target_capacity == 50
        await declared.serve(app("a"), target_capacity=0)
        await declared.engine.until(lambda: not declared.engine.replicas())
        await declared.running.crash()
        await declared.running.boot()
        assert not declared.engine.replicas()
        await declared.serve(app("a"))
        assert len(declared.refs()) == 5 and len(declared.builds) == 1
        assert (await declared.running.status()).target_capacity is None

    scene(directory, scenario)


def test_target_capacity_counts_also_where_the_newest_code_is_broken(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        declared.code["a"] = {"model": {"num_replicas": 4}}
        await declared.serve(app("a"), target_capacity=50)
        assert (await declared.put(app("a", import_path="broken:app"), target_capacity=50)).error == ""
        await declared.running.wait("a")
        assert len(declared.refs()) == 2
        assert (await declared.put(app("a", import_path="broken:app"))).error == ""
        await declared.engine.until(lambda: len(declared.refs()) == 4)

    scene(directory, scenario)


def test_restart_changes_nothing_of_a_script_whose_config_could_not_be_built(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        text = application("a", "/a", model={"num_replicas": 4})
        assert await declared.running.deploy(text) == ""
        assert (await declared.running.wait("a"))[-1].outcome == "running"
        before = declared.refs()
        assert (await declared.put(app("a", import_path="broken:app"), target_capacity=50)).error == ""
        await declared.running.wait("a")
        await declared.running.crash()
        await declared.running.boot()
        reply = await declared.running.ask("details", Empty(), JsonReply)
        model = json.loads(reply.body)["applications"]["a"]["deployments"]["model"]
        assert model["target_num_replicas"] == 4
        assert declared.refs() == before

    scene(directory, scenario)


def test_what_was_acknowledged_outlives_the_controller(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        declared.code["a"] = {"model": {"num_replicas": 1}}
        await declared.serve(app("a"), app("b"))
        override = {"name": "model", "num_replicas": 2}
        assert (await declared.put(app("a", deployments=[override]))).error == ""
        await declared.running.crash()
        await declared.running.boot()
        assert set(await declared.applied()) == {"a"}
        await declared.serve(app("a", deployments=[override]))
        await declared.engine.until(
            lambda: [child.launch.app for child in declared.engine.replicas()] == ["a", "a"]
        )
        assert len(declared.builds) == 2

    scene(directory, scenario)


def test_scaling_from_outside(directory: Path) -> None:
    async def scale(declared: Declared, name: str, deployment: str, count: int) -> str:
        message = ScaleDeployment(app=name, deployment=deployment, num_replicas=count)
        accepted: Accepted = await declared.running.ask("scale", message, Accepted)
        return accepted.error

    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a", external_scaler_enabled=True), app("b"))
        assert await scale(declared, "a", "model", 3) == ""
        await declared.running.wait("a")
        await declared.engine.until(lambda: len(declared.engine.replicas()) == 4)
        await declared.serve(app("a", external_scaler_enabled=True), app("b"))
        assert len(declared.refs()) == 4, "the same file again leaves it alone"
        assert await scale(declared, "a", "model", 0) == ""
        await declared.engine.until(lambda: len(declared.engine.replicas()) == 1)
        assert "external_scaler_enabled" in await scale(declared, "b", "model", 2)
        assert "not found" in await scale(declared, "a", "x", 2)
        await declared.serve(app("a"), app("b"))
        await declared.engine.until(lambda: len(declared.engine.replicas()) == 2)  # the file decides again
        scripted = ApplicationSpec.from_json(
            application("c", route_prefix="/c", model={"ray_actor_options": {"num_cpus": 0}}).encode()
        )
        for allowed in (True, False):
            spec = scripted.model_copy(update={"external_scaler_enabled": allowed})
            await declared.running.ask("deploy", Deploy(specs=[spec.to_json()]), Accepted)
            await declared.running.wait("c")
            refusal = await scale(declared, "c", "model", 2)
            assert ("external_scaler_enabled" in refusal) is not allowed
            await declared.engine.until(lambda count=3 + allowed: len(declared.engine.replicas()) == count)

    scene(directory, scenario)


def test_one_application_alone(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"), app("b"))
        body = json.dumps(app("a", args={"n": 1})).encode()
        message = ApplyConfig(config=body, name="a")
        assert (await declared.running.ask("apply_config", message, Accepted)).error == ""
        assert (await declared.running.wait("a"))[-1].outcome == "running"
        assert set(await declared.applied()) == {"a", "b"}
        assert [launch.name for launch in declared.builds] == ["a", "b", "a"]
        message = ApplyConfig(config=body, name="other")
        assert (
            "name: must be 'other'" in (await declared.running.ask("apply_config", message, Accepted)).error
        )

    scene(directory, scenario)


def test_a_script_takes_an_application_over_and_gives_it_back(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        await declared.serve(app("a"))
        assert await declared.running.deploy(application("a", "/a", "script")) == ""
        assert (await declared.running.wait("a"))[-1].outcome == "running"
        assert await declared.applied() == {}
        await declared.serve(app("b"))
        status = await declared.running.status()
        assert status.applications["a"].status == "RUNNING", "it is the script's now"
        await declared.serve(app("a"), app("b"))
        assert set(await declared.applied()) == {"a", "b"}

    scene(directory, scenario)


def test_details_have_every_key(directory: Path) -> None:
    async def scenario(declared: Declared) -> None:
        declared.code["a"] = {"model": {"children": ["other"], "max_ongoing_requests": 3}, "other": {}}
        await declared.serve(app("a", deployments=[{"name": "other", "num_replicas": 2}]), target_capacity=50)
        assert await declared.running.deploy(application("script", "/script")) == ""
        assert (await declared.running.wait("script"))[-1].outcome == "running"
        reply = await declared.running.ask("details", Empty(), JsonReply)
        details = json.loads(reply.body)
        assert set(details) == set(ServeInstanceDetails.model_fields)
        assert set(details["controller_info"]) == set(ServeActorDetails.model_fields)
        (proxy,) = details["proxies"].values()
        assert set(proxy) == set(ProxyDetails.model_fields) and proxy["status"] == "HEALTHY"
        found = details["applications"]["a"]
        assert set(found) == set(ApplicationDetails.model_fields)
        assert (found["source"], found["status"], found["route_prefix"]) == ("declarative", "RUNNING", "/a")
        assert found["deployed_app_config"]["deployments"] == [{"name": "other", "num_replicas": 2}]
        other = found["deployments"]["other"]
        assert set(other) == set(DeploymentDetails.model_fields)
        assert (other["deployment_config"]["num_replicas"], other["target_num_replicas"]) == (2, 1)
        (replica,) = other["replicas"]
        assert set(replica) == set(ReplicaDetails.model_fields)
        assert replica["state"] == "RUNNING" and replica["pid"] and replica["start_time_s"]
        nodes = found["deployment_topology"]["nodes"]
        assert nodes["model"]["is_ingress"] and not nodes["other"]["is_ingress"]
        assert nodes["model"]["outbound_deployments"] == [{"name": "other", "app_name": "a"}]
        script = details["applications"]["script"]
        assert (script["source"], script["deployed_app_config"]) == ("imperative", None)
        assert details["target_groups"][0]["targets"][0]["port"] == 8123
        assert ServeInstanceDetails.model_validate(details).target_capacity == 50
        declared.engine.end(replica["actor_id"], -9)
        dead: list[Any] = []
        while not dead:  # the scenario has a deadline
            reply = await declared.running.ask("details", Empty(), JsonReply)
            dead = json.loads(reply.body)["applications"]["a"]["deployments"]["other"]["recent_dead_replicas"]
        assert [one["replica_id"] for one in dead] == [replica["replica_id"]]

    scene(directory, scenario)
