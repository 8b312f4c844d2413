"""The controller's methods over REST, so that every command that knows a control socket knows `--address http://...`.

What a stream would tell is found out by asking again. Refusals are for the user, so they are click's errors; a server
that cannot be reached is NotRunningError. Must not add a method that the control socket lacks.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

import click
import msgspec

from eagleray.base.errors import ConfigError, EaglerayError, NotFoundError, NotRunningError
from eagleray.cli.remote import RemoteInstance
from eagleray.wire.changes import ScaleDeployment
from eagleray.wire.control import (
    Accepted,
    ApplyConfig,
    DeleteApplications,
    Empty,
    JsonReply,
    Message,
    Progress,
    StatusReply,
    WaitApplications,
    encode,
)
from eagleray.wire.records import Recollect

T = TypeVar("T")

_LOOK_S = 0.5
"""Between two questions whether something has come true."""

_SETTLED = {"RUNNING": "running", "DEPLOY_FAILED": "failed"}
"""Statuses of an application that end a wait, and how."""


class Control(Protocol):
    """What commands need of a connection to the controller; `rpc.client.Client` is one."""

    async def request(
        self, method: str, message: Message, reply: type[T], *, timeout_s: float | None
    ) -> T: ...

    def subscribe(self, method: str, message: Message) -> AsyncGenerator[bytes, None]: ...

    def close(self) -> None: ...


class RemoteControl:
    """A `Control` by the REST API at `address`. Its calls block the loop: a command does one thing at a time."""

    def __init__(self, address: str) -> None:
        """Raises ClickException when that is no address, NotRunningError when nobody is there."""
        self._instance = _told(lambda: RemoteInstance(address))
        _told(self._instance.version)

    async def request(self, method: str, message: Message, reply: type[T], *, timeout_s: float | None) -> T:
        """As `rpc.client.Client.request`; each single question has a time-out of its own."""
        answer = await self._answer(method, message)
        if not isinstance(answer, reply):
            raise TypeError(f"'{method}' is answered with {type(answer).__name__}, not {reply.__name__}")
        return answer

    async def _answer(self, method: str, message: Message) -> Message:
        match message:
            case ApplyConfig():
                return self._apply(message)
            case ScaleDeployment():
                _told(
                    lambda: self._instance.scale(message.app, message.deployment, message.num_replicas),
                )
                return Accepted()
            case DeleteApplications():
                await self._delete(message.names)
                return Empty()
        if isinstance(message, Recollect):
            return JsonReply(
                body=json.dumps(_told(lambda: self._instance.recollect(method, message.query))).encode()
            )
        if method == "details":
            return JsonReply(body=json.dumps(self._details()).encode())
        if method == "applied_config":
            return JsonReply(body=json.dumps(_configs(self._details())).encode())
        if method == "status":
            return StatusReply(status=msgspec.json.encode(_status(self._details())))
        raise _not_offered(method)

    async def subscribe(self, method: str, message: Message) -> AsyncGenerator[bytes, None]:
        """As `rpc.client.Client.subscribe`."""
        if method == "shutdown":
            await self._shut_down()
        elif isinstance(message, WaitApplications):
            async for progress in self._wait(message.names):
                yield encode(progress)
        else:
            raise _not_offered(method)

    def close(self) -> None:
        """There is nothing to close: each question has a connection of its own."""

    def _details(self) -> dict[str, Any]:
        return _told(self._instance.details)

    def _apply(self, message: ApplyConfig) -> Accepted:
        config = json.loads(message.config)
        try:
            if message.name:
                return Accepted(warnings=self._instance.apply_application(message.name, config))
            return Accepted(warnings=self._instance.apply(config, message.merge))
        except ConfigError as error:
            return Accepted(error=str(error))
        except NotRunningError:
            raise
        except EaglerayError as error:
            raise click.ClickException(str(error)) from error

    async def _delete(self, names: list[str]) -> None:
        for name in names:
            try:
                self._instance.delete(name)
            except NotFoundError:
                continue
            except NotRunningError:
                raise
            except EaglerayError as error:
                raise click.ClickException(str(error)) from error
        while True:
            if set(names).isdisjoint(self._details()["applications"]):
                return
            await asyncio.sleep(_LOOK_S)

    async def _shut_down(self) -> None:
        _told(self._instance.shutdown)
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                self._details()
        except NotRunningError:
            return

    async def _wait(self, names: list[str]) -> AsyncGenerator[Progress, None]:
        told = ""
        while True:
            applications = self._details()["applications"]
            gone = [name for name in names if name not in applications]
            if gone:
                yield Progress(done=True, outcome="deleted", app=gone[0], message="It was deleted.")
                return
            statuses = {name: applications[name]["status"] for name in names}
            failed = [name for name, status in statuses.items() if _SETTLED.get(status) == "failed"]
            if failed:
                text = _failure(applications[failed[0]])
                yield Progress(done=True, outcome="failed", app=failed[0], message=text)
                return
            if all(_SETTLED.get(status) == "running" for status in statuses.values()):
                _told(lambda: self._instance.details(routed=True))
                yield Progress(done=True, outcome="running")
                return
            text = ", ".join(_progress(applications[name]) for name in names)
            if text != told:
                told = text
                yield Progress(message=text)
            await asyncio.sleep(_LOOK_S)


def _told(ask: Callable[[], T]) -> T:
    """The answer; refusals become the user's errors."""
    try:
        return ask()
    except NotRunningError:
        raise
    except EaglerayError as error:
        raise click.ClickException(str(error)) from error


def _not_offered(method: str) -> click.ClickException:
    return click.ClickException(
        f"'{method}' cannot be done over REST: run this on the instance's own machine."
    )


def _configs(details: dict[str, Any]) -> dict[str, Any]:
    return {
        name: app["deployed_app_config"]
        for name, app in details["applications"].items()
        if app.get("deployed_app_config")
    }


def _status(details: dict[str, Any]) -> dict[str, Any]:
    """The shape of `ServeStatus`, from that of `ServeInstanceDetails`."""
    return {
        "proxies": {name: proxy["status"] for name, proxy in details["proxies"].items()},
        "applications": {
            name: {
                **{key: app[key] for key in ("status", "message", "last_deployed_time_s")},
                "deployments": {
                    key: _deployment_status(deployment) for key, deployment in app["deployments"].items()
                },
            }
            for name, app in details["applications"].items()
        },
        "target_capacity": details["target_capacity"],
    }


def _deployment_status(deployment: dict[str, Any]) -> dict[str, Any]:
    states = Counter(replica["state"] for replica in deployment["replicas"])
    return {
        "status": deployment["status"],
        "status_trigger": deployment["status_trigger"],
        "replica_states": dict(states),
        "message": deployment["message"],
    }


def _progress(app: dict[str, Any]) -> str:
    """One line on an application that comes up, with the last word of replicas that have failed to."""
    counts = [
        f"{name} {sum(one['state'] == 'RUNNING' for one in deployment['replicas'])}/{deployment['target_num_replicas']}"
        for name, deployment in app["deployments"].items()
    ]
    problems = [
        f"; {name}: {one['message'].strip().splitlines()[-1]}"
        for name, one in app["deployments"].items()
        if one["status"] != "HEALTHY" and one["message"].strip()
    ]
    return f"{app['status']}{': ' if counts else ''}{', '.join(counts)}{''.join(problems)}"


def _failure(app: dict[str, Any]) -> str:
    details = [
        f"Deployment '{name}': {one['message']}"
        for name, one in app["deployments"].items()
        if one["status"] == "DEPLOY_FAILED" and one["message"]
    ]
    return "\n".join([app["message"], *details])
