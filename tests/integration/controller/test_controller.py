"""A whole controller over real sockets and a real store; only the processes are make-believe."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.decided import application
from tests.fake_engine import FakeEngine

from eagleray.base.errors import EaglerayError
from eagleray.controller import publisher
from eagleray.controller.boot import run_controller
from eagleray.controller.launch import Launcher
from eagleray.engine.base import Capacity, EngineError
from eagleray.routing.table import RoutingTable, decode_table
from eagleray.rpc.client import Client
from eagleray.spec.status import ServeStatus
from eagleray.store.sqlite import SqliteStore
from eagleray.wire.control import (
    Accepted,
    Ack,
    Built,
    DeleteApplications,
    Deploy,
    DeployImport,
    Empty,
    InstanceInfo,
    NodeConfig,
    Progress,
    StartChild,
    StatusReply,
    WaitApplications,
    Watch,
    decode,
)

TIMEOUT_S = 10.0


class Running:
    """An instance: engine, state directory, and controllers that come and go."""

    def __init__(self, directory: Path, engine: FakeEngine) -> None:
        self.directory = directory
        self.engine = engine
        self.address = f"unix:{directory}/controller.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "controller.sock"))
        self.listener.listen(100)
        self.config = NodeConfig(
            runtime_dir=str(directory), state_dir=str(directory), logs_dir=str(directory), http_port=8123
        )
        self.controller: asyncio.Task[bool] | None = None
        self.client: Client

    async def boot(self) -> None:
        store = SqliteStore(str(self.directory))
        work = run_controller(self.config, self.engine, store, self.listener.dup())
        self.controller = asyncio.get_running_loop().create_task(work, name="controller")
        self.client = await Client.connect(self.address)

    async def crash(self) -> None:
        """The controller's process is gone; node, children and sockets live on."""
        assert self.controller is not None
        self.controller.cancel()
        await asyncio.wait({self.controller})
        self.client.close()

    async def ask(self, method: str, message: Any, reply: type[Any]) -> Any:
        return await self.client.request(method, message, reply, timeout_s=TIMEOUT_S)

    async def deploy(self, *specs: str, blobs: dict[str, bytes] | None = None) -> str:
        message = Deploy(specs=[spec.encode() for spec in specs], blobs=blobs or {})
        error: str = (await self.ask("deploy", message, Accepted)).error
        return error

    async def wait(self, *names: str) -> list[Progress]:
        found = []
        async with contextlib.aclosing(
            self.client.subscribe("wait", WaitApplications(names=list(names or ["default"])))
        ) as chunks:
            async for chunk in chunks:
                found.append(decode(chunk, Progress))
        return found

    async def run(self, **deployments: Any) -> None:
        assert await self.deploy(application(**deployments)) == ""
        assert (await self.wait())[-1].outcome == "running"

    async def status(self) -> ServeStatus:
        return ServeStatus.from_json((await self.ask("status", Empty(), StatusReply)).status)


class Follower:
    """A router as the controller sees it: `acks` can be turned off."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.table = RoutingTable()
        self.acks = True
        self.news = asyncio.Event()

    async def follow(self) -> None:
        client = await Client.connect(self.address)
        try:
            async with contextlib.aclosing(client.subscribe("watch", Watch(subscriber="f"))) as tables:
                async for chunk in tables:
                    table = decode_table(chunk)
                    assert table.version > self.table.version, "versions only grow"
                    self.table = table
                    if self.acks:
                        await client.request(
                            "ack", Ack(subscriber="f", version=table.version), Empty, timeout_s=5
                        )
                    self.news.set()
        except EaglerayError:
            pass
        finally:
            client.close()

    async def until(self, condition: Callable[[RoutingTable], bool]) -> RoutingTable:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition(self.table):
                self.news.clear()
                await self.news.wait()
        return self.table

    def replicas(self, key: str = "default#model") -> list[str]:
        entry = self.table.deployments.get(key)
        return [replica.replica_id for replica in entry.replicas] if entry else []


@contextlib.asynccontextmanager
async def following(running: Running) -> AsyncIterator[Follower]:
    follower = Follower(running.address)
    task = asyncio.get_running_loop().create_task(follower.follow(), name="follower")
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="er-"))
    yield path
    shutil.rmtree(path)


def drive(
    directory: Path,
    scenario: Callable[[Running], Awaitable[None]],
    prepare: Callable[[FakeEngine], None] | None = None,
    capacity: Capacity | None = None,
) -> None:
    async def main() -> None:
        engine = FakeEngine(capacity)
        if prepare is not None:
            prepare(engine)
        running = Running(directory, engine)
        await running.boot()
        try:
            async with asyncio.timeout(30):
                await scenario(running)
        finally:
            await running.crash()
            await engine.close()
            running.listener.close()
        left = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        assert not left, f"tasks were left behind: {left}"

    asyncio.run(main())


# ---- deploys ------------------------------------------------------------------------------------------------------


def test_deploy_reaches_routers_and_says_running(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(model={"num_replicas": 2, "max_ongoing_requests": 7})
            assert len(follower.replicas()) == 2, "running means that routers know it"
            entry = follower.table.deployments["default#model"]
            assert {replica.max_ongoing for replica in entry.replicas} == {7}
            assert [route.prefix for route in follower.table.routes] == ["/"]
            assert follower.table.ingress == {"default": "default#model"}
            assert follower.table.populated
        status = await running.status()
        assert status.applications["default"].status == "RUNNING"
        assert list(status.proxies.values()) == ["HEALTHY"]
        info = await running.ask("info", Empty(), InstanceInfo)
        assert (info.http_url, info.http_error) == ("http://127.0.0.1:8123", "")

    drive(directory, scenario)


def test_replica_is_born_with_all_it_needs(directory: Path) -> None:
    code = b"pickled code"
    digest = hashlib.sha256(code).hexdigest()
    spec = json.loads(
        application(
            model={
                "user_config": {"a": 1},
                "ray_actor_options": {"num_gpus": 0.5, "runtime_env": {"env_vars": {"X": "1"}}},
            }
        )
    )
    spec["deployments"][0]["code"] = {"code": digest}
    spec["sys_path"] = ["/user"]

    async def scenario(running: Running) -> None:
        assert await running.deploy(json.dumps(spec), blobs={digest: code}) == ""
        assert (await running.wait())[-1].outcome == "running"
        (child,) = running.engine.replicas()
        launch = child.launch
        assert (launch.app, launch.deployment, launch.code, launch.target) == ("default", "model", code, "")
        assert launch.user_config == b'{"a":1}'
        assert launch.sys_path == ["/user"]
        assert launch.is_ingress
        assert launch.controller_address == running.address
        assert child.request.env == {"X": "1", "CUDA_VISIBLE_DEVICES": "4"}
        assert child.request.log_path.endswith(f"replica_default_model_{launch.replica_id}.log")

    drive(directory, scenario, capacity=Capacity(2, 1 << 30, gpu_ids=("4", "7")))


def test_constructor_that_raises_fails_the_deploy_with_its_traceback(directory: Path) -> None:
    def prepare(engine: FakeEngine) -> None:
        engine.ready_error = lambda child: (
            "Traceback\nValueError: no weights" if child.started.ref.startswith("replica") else ""
        )

    async def scenario(running: Running) -> None:
        assert await running.deploy(application()) == ""
        last = (await running.wait())[-1]
        assert last.outcome == "failed"
        assert last.message.startswith("Failed to update the deployments ['model'].")
        assert "ValueError: no weights" in last.message
        await running.engine.until(lambda: not running.engine.replicas())
        assert (
            len([child for child in running.engine.history if child.started.ref.startswith("replica")]) == 3
        )

    drive(directory, scenario, prepare)


def test_start_that_cannot_be_sent_fails_the_deploy(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unsendable(*_: Any) -> None:
        raise OverflowError("can't serialize ints")

    monkeypatch.setattr(Launcher, "_replica", unsendable)

    async def scenario(running: Running) -> None:
        assert await running.deploy(application()) == ""
        last = (await running.wait())[-1]
        assert last.outcome == "failed"
        assert "OverflowError: can't serialize ints" in last.message

    drive(directory, scenario)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("{}", "name"),
        (
            application("second"),
            'Prefix / is being used by application "default". Failed to deploy application "second".',
        ),
        (
            application().replace('"target":"app:model"', '"code":"' + "0" * 64 + '"'),
            "Code blobs are missing",
        ),
    ],
)
def test_refused_deploy_changes_nothing(directory: Path, spec: str, error: str) -> None:
    async def scenario(running: Running) -> None:
        await running.run()
        before = await running.status()
        assert error in await running.deploy(application("third", route_prefix="/third"), spec)
        assert await running.status() == before

    drive(directory, scenario)


def test_damaged_blob_is_refused(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        assert "damaged" in await running.deploy(application(), blobs={"0" * 64: b"other"})
        assert not (await running.status()).applications

    drive(directory, scenario)


def test_waiting_for_resources_is_told(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        spec = application(model={"ray_actor_options": {"num_gpus": 1, "num_cpus": 64}})
        assert await running.deploy(spec) == ""
        told = []
        async with contextlib.aclosing(
            running.client.subscribe("wait", WaitApplications(names=["default"]))
        ) as chunks:
            async for chunk in chunks:
                told.append(decode(chunk, Progress).message)
                if len(told) == 2:
                    break
        assert told[0] == "Deployment 'model' waits for resources: a replica needs num_gpus=1, free 0 of 0."
        assert "num_cpus=64, this machine has 2" in told[1]

    drive(directory, scenario)


def test_import_is_built_by_a_child(directory: Path) -> None:
    def prepare(engine: FakeEngine) -> None:
        engine.built = Built(spec=application().encode())

    async def scenario(running: Running) -> None:
        message = DeployImport(import_path="app:main", sys_path=["/user"])
        assert (await running.ask("deploy_import", message, Accepted)).error == ""
        assert (await running.wait())[-1].outcome == "running"
        assert [child.request.module for child in running.engine.history].count("eagleray.build") == 1
        await running.engine.until(
            lambda: not any(ref.startswith("builder") for ref in running.engine.living)
        )

    drive(directory, scenario, prepare)


def test_import_that_fails_says_why(directory: Path) -> None:
    def prepare(engine: FakeEngine) -> None:
        engine.built = Built(error="ModuleNotFoundError: No module named 'app'")

    async def scenario(running: Running) -> None:
        message = DeployImport(import_path="app:main")
        assert (await running.ask("deploy_import", message, Accepted)).error == ""
        last = (await running.wait())[-1]
        assert (last.outcome, last.message) == ("failed", "ModuleNotFoundError: No module named 'app'")

    drive(directory, scenario, prepare)


def test_builder_that_dies_fails_the_deploy(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        def refuse(request: Any) -> EngineError | None:
            return EngineError("internal", "no memory") if request.module == "eagleray.build" else None

        running.engine.start_error = refuse
        assert (
            await running.ask("deploy_import", DeployImport(import_path="app:main"), Accepted)
        ).error == ""
        assert (await running.wait())[-1].message == "no memory"

    drive(directory, scenario)


def test_newer_deploy_ends_the_wait_for_an_older_one(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        running.engine.gate.clear()
        await running.deploy(application(version="v1"))
        waiting = asyncio.get_running_loop().create_task(running.wait(), name="wait")
        await asyncio.sleep(0)
        await running.status()
        await running.deploy(application(version="v2"))
        assert (await waiting)[-1].outcome == "deleted"
        running.engine.gate.set()
        assert (await running.wait())[-1].outcome == "running"

    drive(directory, scenario)


# ---- changes --------------------------------------------------------------------------------------------------------


def test_old_replica_drains_only_after_all_routers_have_acknowledged(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(version="v1")
            (old,) = running.engine.replicas()
            follower.acks = False
            assert await running.deploy(application(version="v2")) == ""
            await follower.until(lambda table: follower.replicas() not in ([], [old.launch.replica_id]))
            await follower.until(lambda table: old.launch.replica_id not in follower.replicas())
            await running.status()
            assert not old.drained
            await running.ask("ack", Ack(subscriber="f", version=follower.table.version), Empty)
            await running.engine.until(lambda: old.drained == [20.0])
            await running.engine.until(lambda: len(running.engine.replicas()) == 1)

    drive(directory, scenario)


def test_router_that_goes_away_does_not_hold_up_a_drain(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(version="v1")
            (old,) = running.engine.replicas()
            follower.acks = False
            assert await running.deploy(application(version="v2")) == ""
            await follower.until(lambda table: old.launch.replica_id not in follower.replicas())
        await running.engine.until(lambda: bool(old.drained))

    drive(directory, scenario)


def test_silent_router_does_not_hold_up_a_drain_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ACK_TIMEOUT_S", 0.02)

    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(version="v1")
            (old,) = running.engine.replicas()
            follower.acks = False
            assert await running.deploy(application(version="v2")) == ""
            await running.engine.until(lambda: bool(old.drained))

    drive(directory, scenario)


def test_dead_replica_leaves_the_table_and_is_replaced(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(model={"num_replicas": 2})
            dead = running.engine.replicas()[0]
            running.engine.end(dead.started.ref, -9)
            await follower.until(lambda table: dead.launch.replica_id not in follower.replicas())
            await follower.until(lambda table: len(follower.replicas()) == 2)

    drive(directory, scenario)


def test_unhealthy_replica_is_replaced(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run(model={"health_check_period_s": 0.01})
        (sick,) = running.engine.replicas()
        running.engine.health_error = lambda child: "sick" if child is sick else ""
        await running.engine.until(
            lambda: bool(running.engine.replicas()) and sick not in running.engine.replicas()
        )

    drive(directory, scenario)


def test_user_config_reaches_the_replica_in_place(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run(model={"user_config": 1})
        (child,) = running.engine.replicas()
        await running.run(model={"user_config": 2, "max_ongoing_requests": 9})
        assert running.engine.replicas() == [child]
        (told,) = child.reconfigured
        assert (told.user_config, told.max_ongoing_requests, told.world_size) == (b"2", 9, None)

    drive(directory, scenario)


def test_delete_returns_when_everything_is_gone(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run()
            await running.ask("delete", DeleteApplications(names=["default", "unknown"]), Empty)
            assert not running.engine.replicas()
            assert not (await running.status()).applications
            await follower.until(lambda table: not table.routes and not table.deployments)
            assert follower.table.populated

    drive(directory, scenario)


# ---- the instance ---------------------------------------------------------------------------------------------------


def test_shutdown_ends_everything_and_forgets_it(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run(front={"children": ["back"]}, back={})
        await running.ask("shutdown", Empty(), Empty)
        assert running.controller is not None
        assert await running.controller
        assert running.engine.was_shut_down
        assert not running.engine.living
        with contextlib.closing(SqliteStore(str(directory))) as store, store.transaction() as transaction:
            assert not [*transaction.scan("applications"), *transaction.scan("instances")]

    drive(directory, scenario)


def test_owner_that_goes_away_ends_the_instance(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run()
        owner = await Client.connect(running.address)

        async def own() -> None:
            with contextlib.suppress(EaglerayError):
                async for _ in owner.subscribe("own", Empty()):
                    pass

        owning = asyncio.get_running_loop().create_task(own(), name="own")
        await running.status()
        assert running.engine.replicas()
        owner.close()
        await owning
        assert running.controller is not None
        assert await running.controller
        assert running.engine.was_shut_down

    drive(directory, scenario)


def test_port_in_use_is_told_and_not_retried_at_once(directory: Path) -> None:
    attempts = []

    def prepare(engine: FakeEngine) -> None:
        def refuse(request: Any) -> EngineError | None:
            if request.http is None:
                return None
            attempts.append(request.ref)
            return EngineError("port_in_use", "Failed to bind to address '127.0.0.1:8123'.")

        engine.start_error = refuse

    async def scenario(running: Running) -> None:
        info = await running.ask("info", Empty(), InstanceInfo)
        assert (info.http_url, info.http_error) == ("", "Failed to bind to address '127.0.0.1:8123'.")
        await running.run()
        assert len(attempts) <= 3

    drive(directory, scenario, prepare)


def test_crashed_controller_adopts_what_lives_and_tables_go_on(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        async with following(running) as follower:
            await running.run(model={"num_replicas": 2})
            before = {child.started.ref for child in running.engine.replicas()}
            version = follower.table.version
        # What is accepted is durable, and so is all that was written before it: that the replicas run, that is.
        assert await running.deploy(application(model={"num_replicas": 2})) == ""
        started = len(running.engine.history)
        await running.crash()
        await running.boot()
        async with following(running) as follower:
            table = await follower.until(lambda table: table.version > version)
            assert len(table.deployments["default#model"].replicas) == 2, "the first table lists all of them"
            assert (await running.wait())[-1].outcome == "running"
        assert {child.started.ref for child in running.engine.replicas()} == before
        assert len(running.engine.history) == started

    drive(directory, scenario)


def test_crash_after_acceptance_loses_no_deploy(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        running.engine.gate.clear()
        assert await running.deploy(application(model={"num_replicas": 2})) == ""
        await running.crash()
        running.engine.gate.set()
        await running.boot()
        assert (await running.wait())[-1].outcome == "running"
        assert len(running.engine.replicas()) == 2

    drive(directory, scenario)


def test_crash_in_the_middle_of_an_update_finishes_it(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run(version="v1", model={"num_replicas": 2})
        old = {child.started.ref for child in running.engine.replicas()}
        running.engine.gate.clear()
        assert await running.deploy(application(version="v2", model={"num_replicas": 2})) == ""
        await running.crash()
        running.engine.gate.set()
        await running.boot()
        assert (await running.wait())[-1].outcome == "running"
        await running.engine.until(lambda: len(running.engine.replicas()) == 2)
        assert not old & {child.started.ref for child in running.engine.replicas()}

    drive(directory, scenario)


def test_unknown_children_are_ended_after_a_restart(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.crash()
        await running.engine.start(StartChild(ref="builder-x", module="eagleray.build"))
        await running.boot()
        await running.status()
        await running.engine.until(lambda: "builder-x" not in running.engine.living)

    drive(directory, scenario)


def test_instance_started_anew_brings_its_applications_back(directory: Path) -> None:
    async def scenario(running: Running) -> None:
        await running.run()
        await running.crash()
        for ref in list(running.engine.living):
            running.engine.end(ref, -9)
        await running.engine.until(lambda: not running.engine.living)
        await running.boot()
        assert (await running.wait())[-1].outcome == "running"

    drive(directory, scenario)
