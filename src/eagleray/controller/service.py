"""The controller's RPC methods: what drivers, command lines and routers may ask of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from eagleray.admin.door import Door
from eagleray.admin.gate import Refusal
from eagleray.admin.records import Reading
from eagleray.base.errors import EaglerayError
from eagleray.controller import intake
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.controller import Controller, Prepare
from eagleray.controller.declared import Declarations
from eagleray.controller.gathering import Gathering
from eagleray.controller.publisher import Publisher
from eagleray.controller.waiting import follow_applications
from eagleray.reconcile.events import Expired, ShutdownRequested
from eagleray.reconcile.status import proxy_error, serve_status
from eagleray.reconcile.target import GRPC_PROXY_KEY, PROXY_KEY
from eagleray.reconcile.world import World
from eagleray.rpc.control import ControlHandler
from eagleray.rpc.server import Incoming
from eagleray.spec.texts import parse_json
from eagleray.wire.changes import ChangeDeployment, ScaleDeployment
from eagleray.wire.control import (
    Accepted,
    Ack,
    ApplyConfig,
    DeleteApplications,
    Deploy,
    DeployImport,
    Empty,
    InstanceInfo,
    JsonReply,
    Message,
    NodeConfig,
    StatusReply,
    WaitApplications,
    Watch,
    decode,
    encode,
)
from eagleray.wire.messages import ReplyHead
from eagleray.wire.metrics import Shipment
from eagleray.wire.records import Recollect
from eagleray.wire.recycling import Expire
from eagleray.wire.scaling import LoadReport

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that cannot be dialled -> one of theirs that can."""


class Service:
    """Handlers get the body and the call; `rpc.control.ControlMethods` runs them as tasks."""

    def __init__(
        self,
        controller: Controller,
        publisher: Publisher,
        autoscaling: Autoscaling,
        config: NodeConfig,
        declarations: Declarations,
        door: Door,
        gathering: Gathering,
        reading: Reading,
    ) -> None:
        self._reading = reading
        self._gathering = gathering
        self._door = door
        self._declarations = declarations
        self._controller = controller
        self._publisher = publisher
        self._autoscaling = autoscaling
        self._config = config
        self._ended = asyncio.Event()
        self._leaving: set[asyncio.Future[None]] = set()

    @property
    def methods(self) -> Mapping[str, ControlHandler]:
        return {
            "deploy": self._deploy,
            "deploy_import": self._deploy_import,
            "apply_config": self._apply_config,
            "applied_config": self._applied_config,
            "details": self._details,
            "history": self._history,
            "events": self._events,
            "overview": self._overview,
            "scale": self._scale,
            "change": self._change,
            "wait": self._wait,
            "delete": self._delete,
            "status": self._status,
            "info": self._info,
            "shutdown": self._shutdown,
            "own": self._own,
            "watch": self._watch,
            "ack": self._ack,
            "load": self._load,
            "metrics": self._metrics,
            "expire": self._expire,
        }

    @property
    def _world(self) -> World:
        return self._controller.world

    async def say_goodbye(self) -> None:
        """Everything is gone: answers those who asked for the shutdown, and returns when they have been answered."""
        self._ended.set()
        if self._leaving:
            await asyncio.wait(self._leaving)

    # ---- drivers and command lines ------------------------------------------------------------------------------

    async def _deploy(self, body: bytes, incoming: Incoming) -> Message:
        return await self._accept(intake.admit_deploy(decode(body, Deploy)))

    async def _deploy_import(self, body: bytes, incoming: Incoming) -> Message:
        return await self._accept(intake.admit_import(decode(body, DeployImport)))

    async def _change(self, body: bytes, incoming: Incoming) -> Message:
        return await self._accept(intake.admit_change(decode(body, ChangeDeployment)))

    async def _accept(self, prepare: Prepare) -> Accepted:
        try:
            await self._controller.admit(prepare)
        except EaglerayError as error:
            return Accepted(error=str(error))
        return Accepted()

    async def _apply_config(self, body: bytes, incoming: Incoming) -> Message:
        message = decode(body, ApplyConfig)
        try:
            data = await asyncio.to_thread(parse_json, message.config)
            if message.name:
                warnings = await self._declarations.apply_application(
                    message.name, data, source=message.source
                )
            else:
                warnings = await self._declarations.apply(
                    data, message.merge, source=message.source, sys_path=message.sys_path
                )
        except EaglerayError as error:
            return Accepted(error=str(error))
        return Accepted(warnings=warnings)

    async def _applied_config(self, body: bytes, incoming: Incoming) -> Message:
        return JsonReply(body=msgspec.json.encode(self._declarations.applied_config()))

    async def _details(self, body: bytes, incoming: Incoming) -> Message:
        return JsonReply(body=msgspec.json.encode(self._declarations.details()))

    async def _history(self, body: bytes, incoming: Incoming) -> Message:
        return await self._recollect(self._reading.history, body)

    async def _events(self, body: bytes, incoming: Incoming) -> Message:
        return await self._recollect(self._reading.events, body)

    async def _overview(self, body: bytes, incoming: Incoming) -> Message:
        return await self._recollect(self._reading.overview, body)

    async def _recollect(self, read: Callable[[str], Awaitable[Any]], body: bytes) -> Message:
        try:
            found = await read(decode(body, Recollect).query)
        except Refusal as refusal:
            raise EaglerayError(refusal.text) from None
        return JsonReply(body=msgspec.json.encode(found))

    async def _scale(self, body: bytes, incoming: Incoming) -> Message:
        message = decode(body, ScaleDeployment)
        try:
            await self._declarations.scale(message.app, message.deployment, message.num_replicas)
        except EaglerayError as error:
            return Accepted(error=str(error))
        return Accepted()

    async def _wait(self, body: bytes, incoming: Incoming) -> None:
        message = decode(body, WaitApplications)
        async for progress in follow_applications(self._controller, message.names, message.verbose):
            incoming.send(encode(progress), end=progress.done)

    async def _delete(self, body: bytes, incoming: Incoming) -> Message:
        names = decode(body, DeleteApplications).names
        going = {
            name: row.generation for name in names if (row := self._world.applications.get(name)) is not None
        }
        await self._declarations.delete(going)
        while any(self._has(name, generation) for name, generation in going.items()):
            await self._controller.changed()
        return Empty()

    def _has(self, name: str, generation: int) -> bool:
        row = self._world.applications.get(name)
        return row is not None and row.generation == generation

    async def _status(self, body: bytes, incoming: Incoming) -> Message:
        return StatusReply(status=serve_status(self._world).to_json())

    async def _info(self, body: bytes, incoming: Incoming) -> Message:
        """Waits until the proxies listen, or have failed to."""
        while not (self._is_known(PROXY_KEY) and self._is_known(GRPC_PROXY_KEY)):
            await self._controller.changed()
        grpc = self._config.grpc_options
        return InstanceInfo(
            http_url=self._http_url(),
            http_error=proxy_error(self._world),
            grpc_address=f"{grpc['host']}:{grpc['port']}" if self._listens(GRPC_PROXY_KEY) else "",
            grpc_error=proxy_error(self._world, GRPC_PROXY_KEY),
            admin_url=self._door.url,
            admin_error=self._door.error,
            admin_token_path=self._door.token_path,
            logs_dir=self._config.logs_dir,
            pid=os.getpid(),
        )

    def _is_known(self, key: str) -> bool:
        """Whether what is to be said of a system deployment's proxy will not change by waiting."""
        proxies = self._world.deployments.get(key)
        is_wanted = proxies is not None and proxies.target is not None
        return not is_wanted or self._listens(key) or bool(proxy_error(self._world, key))

    def _listens(self, key: str) -> bool:
        return any(instance.is_listed for instance in self._world.instances_of(key))

    def _http_url(self) -> str:
        for instance in self._world.instances_of(PROXY_KEY):
            if instance.is_listed and instance.row.http_address is not None:
                host, port = instance.row.http_address
                host = _ANY_ADDRESS.get(host, host)
                scheme = "https" if self._config.http_options.get("ssl_certfile") else "http"
                return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        return ""

    async def _shutdown(self, body: bytes, incoming: Incoming) -> None:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving.add(answered)
        try:
            self._controller.post(ShutdownRequested())
            await self._ended.wait()
            incoming.reply(ReplyHead(), encode(Empty()))
        finally:
            self._leaving.discard(answered)
            answered.set_result(None)

    async def _own(self, body: bytes, incoming: Incoming) -> None:
        """Held open by the driver that the instance belongs to; its end is the end of the instance."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._controller.post(ShutdownRequested())

    # ---- routers --------------------------------------------------------------------------------------------------

    async def _watch(self, body: bytes, incoming: Incoming) -> None:
        subscriber = decode(body, Watch).subscriber
        try:
            await self._publisher.follow(subscriber, incoming)
        finally:
            if not self._publisher.is_followed_by(subscriber):
                self._autoscaling.forget(subscriber)
                self._gathering.on_driver_gone(subscriber)

    async def _load(self, body: bytes, incoming: Incoming) -> Message:
        report = decode(body, LoadReport)
        if self._publisher.is_followed_by(report.subscriber):  # else nobody would tell that it has gone
            self._autoscaling.tell(report)
        return Empty()

    async def _metrics(self, body: bytes, incoming: Incoming) -> Message:
        shipment = decode(body, Shipment)
        if self._publisher.is_followed_by(shipment.subscriber):  # as above
            self._gathering.on_driver(shipment)
        return Empty()

    async def _ack(self, body: bytes, incoming: Incoming) -> Message:
        message = decode(body, Ack)
        self._publisher.ack(message.subscriber, message.version)
        return Empty()

    # ---- replicas -------------------------------------------------------------------------------------------------

    async def _expire(self, body: bytes, incoming: Incoming) -> Message:
        message = decode(body, Expire)
        self._controller.post(Expired(f"replica-{message.replica_id}", message.reason))
        return Empty()
