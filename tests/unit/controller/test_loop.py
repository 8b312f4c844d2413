"""The controller's loop against a store that fails and effects that only remember."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.decided import application

from eagleray.base.errors import ConfigError
from eagleray.controller.controller import Admission, Controller
from eagleray.controller.publisher import Publisher
from eagleray.controller.storage import Storage
from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import Trigger
from eagleray.reconcile.placement import Supply
from eagleray.reconcile.world import World
from eagleray.store.base import StoreError
from eagleray.store.sqlite import SqliteStore


class FailingStore(SqliteStore):
    """A real store on a disk that can be full."""

    is_full = False

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with super().transaction() as transaction:
            yield transaction
            if self.is_full:
                raise StoreError("disk full")


class Stepped:
    """A controller that is stepped by hand; `now` is its time."""

    def __init__(self, directory: str) -> None:
        self.time = 100.0
        self.store = FailingStore(directory)
        self.storage = Storage(self.store)
        self.performed: list[c.Command] = []
        self.world = World("seed")
        self.publisher = Publisher(self.on_unlisted, 0, is_restart=False)
        self.controller = Controller(self.world, self.storage, self.publisher, self, "/run", 1000)
        self.controller.perform = self.performed.append
        self.controller.post(e.SupplyKnown(Supply(num_cpus=2)))

    def now(self) -> float:
        return self.time

    def on_unlisted(self, ref: str) -> None:
        self.controller.post(e.Happened(ref, Trigger.UNLISTED))

    async def admit(self, *events: e.Event) -> None:
        admitted = asyncio.ensure_future(self.controller.admit(lambda world: Admission(list(events))))
        await asyncio.sleep(0)
        await self.controller.step()
        await admitted

    def rows(self, table: str) -> list[str]:
        with self.store.transaction() as transaction:
            return [key for key, _ in transaction.scan(table)]


def drive(directory: Any, scenario: Callable[[Stepped], Awaitable[None]]) -> None:
    async def main() -> None:
        stepped = Stepped(str(directory))
        try:
            await scenario(stepped)
        finally:
            stepped.publisher.close()
            await stepped.storage.close()

    asyncio.run(main())


def test_rows_are_durable_before_commands_are_performed(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        seen: list[list[str]] = []

        def perform(command: c.Command) -> None:
            seen.append(stepped.rows("instances"))
            stepped.performed.append(command)

        stepped.controller.perform = perform
        await stepped.admit(e.Deployed("default", application(), 0.0))
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        assert seen == [[start.ref]]

    drive(tmp_path, scenario)


def test_deploy_that_cannot_be_stored_is_refused_and_changes_nothing(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        await stepped.controller.step()
        stepped.store.is_full = True
        with pytest.raises(StoreError):
            await stepped.admit(e.Deployed("default", application(), 0.0))
        assert not stepped.world.applications
        assert not stepped.performed
        stepped.store.is_full = False
        await stepped.admit(e.Deployed("default", application(), 0.0))
        assert len(stepped.performed) == 1

    drive(tmp_path, scenario)


def test_request_that_does_not_pass_the_checks_stops_nobody_else(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        def refuse(world: World) -> Admission:
            raise ConfigError("no")

        refused = asyncio.ensure_future(stepped.controller.admit(refuse))
        admitted = asyncio.ensure_future(
            stepped.controller.admit(lambda world: Admission([e.Deployed("a", application("a"), 0.0)]))
        )
        await asyncio.sleep(0)
        await stepped.controller.step()
        await admitted
        with pytest.raises(ConfigError):
            await refused

    drive(tmp_path, scenario)


def test_full_disk_holds_commands_back_but_not_the_routing_table(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        await stepped.admit(e.Deployed("default", application(), 0.0))
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        for event in (e.Born(start.ref, 1), e.Happened(start.ref, Trigger.READY)):
            stepped.controller.post(event)
        await stepped.controller.step()
        assert len(stepped.publisher.table.deployments["default#model"].replicas) == 1
        stepped.performed.clear()
        stepped.store.is_full = True
        stepped.controller.post(e.Happened(start.ref, Trigger.LOST, "EOF"))
        await stepped.controller.step()
        assert not stepped.publisher.table.deployments["default#model"].replicas
        assert not stepped.performed, "no process without its row"
        stepped.store.is_full = False
        await stepped.controller.step()
        assert {type(command) for command in stepped.performed} == {c.StopInstance, c.StartInstance}

    drive(tmp_path, scenario)


def test_full_disk_does_not_hold_up_the_end_of_the_instance(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        await stepped.admit(e.Deployed("default", application(), 0.0))
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        for event in (e.Born(start.ref, 1), e.Happened(start.ref, Trigger.READY)):
            stepped.controller.post(event)
        await stepped.controller.step()
        stepped.performed.clear()
        stepped.store.is_full = True
        stepped.controller.post(e.DrainBegun())
        await stepped.controller.step()
        await stepped.controller.step()
        assert stepped.performed == [c.CloseListeners(), c.DrainInstance(start.ref, 20.0)]
        for trigger in (Trigger.DRAINED, Trigger.EXITED):
            stepped.controller.post(e.Happened(start.ref, trigger))
        await stepped.controller.step()
        assert stepped.performed[-1] == c.EndInstance()

    drive(tmp_path, scenario)


def test_report_that_cannot_be_true_is_ignored(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        await stepped.admit(e.Deployed("default", application(), 0.0))
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        stepped.controller.post(e.Happened(start.ref, Trigger.DRAINED))
        stepped.controller.post(e.Happened("nobody", Trigger.READY))
        await stepped.controller.step()
        assert stepped.world.instances[start.ref].state == "STARTING"

    drive(tmp_path, scenario)


def test_table_version_changes_only_with_its_content(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        await stepped.controller.step()
        version = stepped.publisher.table.version
        await stepped.controller.step()
        assert stepped.publisher.table.version == version
        await stepped.admit(e.Deployed("default", application(), 0.0))
        assert stepped.publisher.table.version == version + 1

    drive(tmp_path, scenario)


def test_blobs_of_a_deleted_application_are_collected(tmp_path: Any) -> None:
    async def scenario(stepped: Stepped) -> None:
        with stepped.store.transaction() as transaction:
            digest = transaction.put_blob(b"code")
        spec = application().replace('"target":"app:model"', f'"code":"{digest}"')
        await stepped.admit(e.Deployed("default", spec, 0.0))
        assert stepped.store.blob(digest) == b"code"
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        stepped.controller.post(e.Happened(start.ref, Trigger.REJECTED))
        stepped.controller.post(e.DeleteRequested(("default",)))
        await stepped.controller.step()
        assert not stepped.world.applications
        with pytest.raises(KeyError):
            stepped.store.blob(digest)

    drive(tmp_path, scenario)


def test_deadlines_do_not_pass_while_their_commands_are_held_back(tmp_path: Any) -> None:
    """A replica that could not be told to drain must not be killed for not having drained."""

    async def scenario(stepped: Stepped) -> None:
        await stepped.admit(e.Deployed("default", application(), 0.0))
        (start,) = stepped.performed
        assert isinstance(start, c.StartInstance)
        for event in (e.Born(start.ref, 1), e.Happened(start.ref, Trigger.READY)):
            stepped.controller.post(event)
        await stepped.controller.step()
        await stepped.admit(e.DeleteRequested(("default",)))
        stepped.store.is_full = True
        await stepped.controller.step()
        stepped.time += 3600
        stepped.controller.post(e.SupplyKnown(Supply(num_cpus=3)))
        await stepped.controller.step()
        assert stepped.performed == [start]
        stepped.store.is_full = False
        await stepped.controller.step()
        assert [type(command) for command in stepped.performed[1:]] == [c.DrainInstance]
        stepped.time += 3600
        await stepped.controller.step()
        assert stepped.performed[2:] == [c.StopInstance(start.ref, 9)]

    drive(tmp_path, scenario)
