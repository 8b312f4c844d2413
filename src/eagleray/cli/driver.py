"""The driver of `eagleray run`: starts an instance, has the application built and deployed, tells what a person needs
to know, and ends everything in order.

It never imports the user's code: a builder child does, so that this process stays small and a broken import cannot
take it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.cli.watch import changes
from eagleray.engine.local import NodeProcess, node_config, spawn_node
from eagleray.rpc.client import Client
from eagleray.wire.control import (
    Accepted,
    DeployImport,
    Empty,
    InstanceInfo,
    Progress,
    WaitApplications,
    decode,
)

SERVED, FAILED, INTERRUPTED = 0, 1, 130

_SHUTDOWN_S = 30.0
"""Seconds for an orderly end; then node is told to hurry."""


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    import_path: str
    arguments: dict[str, str]
    app_dir: str
    host: str
    port: int
    route_prefix: str | None
    name: str
    reload: bool


class Failure(Exception):
    """The application could not be served; the text is for the user."""


class Driver:
    """One run of the command; `run` returns its exit code."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._signals = 0
        self._stop = asyncio.Event()
        self._tasks = Tasks("driver")

    def run(self) -> int:
        node = spawn_node(node_config(http_host=self._plan.host, http_port=self._plan.port))
        try:
            return asyncio.run(self._main(node))
        finally:
            node.close()

    async def _main(self, node: NodeProcess) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._on_signal)
        serving = self._tasks.start(self._serve(node), name="serve")
        stopping = self._tasks.start(self._stop.wait(), name="wait for a signal")
        gone = self._tasks.start(node.wait(), name="wait for node")
        try:
            await asyncio.wait({serving, stopping, gone}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            if stopping.done():
                return await self._interrupted(node, serving)
            _say(f"Eagleray's supervisor has died. Its log: {node.logs_dir}")
            return FAILED
        finally:
            await self._tasks.close()

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()

    async def _interrupted(self, node: NodeProcess, serving: asyncio.Task[int]) -> int:
        was_up = self._is_up
        serving.cancel()
        await asyncio.wait({serving})
        if was_up:
            _say("\nStopping ...")
        await self._shut_down(node)
        return SERVED if was_up else INTERRUPTED

    _is_up = False

    async def _serve(self, node: NodeProcess) -> int:
        try:
            await node.wait_ready()
            client = await Client.connect(node.controller_address)
        except (OSError, EaglerayError) as error:
            _say(f"Eagleray could not start: {error}\nLogs: {node.logs_dir}")
            return FAILED
        try:
            self._tasks.start(_hold(client), name="own the instance")
            await self._deploy(client)
            info = await self._address(client)
            self._is_up = True
            self._announce(info)
            if self._plan.reload:
                await self._reload(client)
            await asyncio.Event().wait()
            return SERVED
        except Failure as failure:
            _say(str(failure))
            await self._shut_down(node)
            return FAILED
        finally:
            client.close()

    async def _deploy(self, client: Client) -> None:
        """Raises Failure unless the application runs."""
        plan = self._plan
        request = DeployImport(
            import_path=plan.import_path,
            args=dict(plan.arguments),
            name=plan.name,
            route_prefix=plan.route_prefix,
            sys_path=[plan.app_dir],
            reload=plan.reload,
        )
        accepted = await client.request("deploy_import", request, Accepted, timeout_s=None)
        if accepted.error:
            raise Failure(accepted.error)
        async for progress in _progress(client, plan.name):
            if progress.message and not progress.done:
                _say(progress.message)
            if progress.done and progress.outcome != "running":
                raise Failure(f"Deploying application {plan.name} failed: {progress.message}")

    async def _address(self, client: Client) -> InstanceInfo:
        info = await client.request("info", Empty(), InstanceInfo, timeout_s=None)
        if info.http_error:
            raise Failure(info.http_error)
        return info

    def _announce(self, info: InstanceInfo) -> None:
        prefix = self._plan.route_prefix
        if prefix is not None and info.http_url:
            url = info.http_url.rstrip("/") + prefix
            print(f"  App    {url}\n  Try    curl {url}")
        else:
            print(f"  App    {self._plan.name} (no HTTP route)")
        print(f"  Logs   {info.logs_dir}\n  Stop   Ctrl-C", flush=True)

    async def _reload(self, client: Client) -> None:
        """Redeploys at every change; a broken version is reported and the running one stays."""
        async for changed in changes(self._plan.app_dir):
            _say(f"Reloading: {', '.join(sorted(changed))}")
            try:
                await self._deploy(client)
                _say("Reloaded.")
            except Failure as failure:
                _say(f"{failure}\nThe version before goes on serving; save again to retry.")

    async def _shut_down(self, node: NodeProcess) -> None:
        """Ends the instance in order; a second signal or too long a wait ends it at once."""
        self._stop.clear()
        orderly = self._tasks.start(_shut_down(node), name="shut down")
        hurry = self._tasks.start(self._stop.wait(), name="wait for a second signal")
        await asyncio.wait({orderly, hurry}, timeout=_SHUTDOWN_S, return_when=asyncio.FIRST_COMPLETED)
        node.terminate()
        await node.wait()


async def _shut_down(node: NodeProcess) -> None:
    try:
        client = await Client.connect(node.controller_address)
        async with contextlib.aclosing(client.subscribe("shutdown", Empty())) as answers:
            async for _ in answers:
                pass
        await node.wait()
    except (OSError, EaglerayError):
        return


async def _hold(client: Client) -> None:
    """Tells the controller that the instance is to end with this connection."""
    try:
        async with contextlib.aclosing(client.subscribe("own", Empty())) as silence:
            async for _ in silence:
                pass
    except EaglerayError:
        return


async def _progress(client: Client, name: str) -> AsyncIterator[Progress]:
    try:
        async with contextlib.aclosing(client.subscribe("wait", WaitApplications(names=[name]))) as chunks:
            async for chunk in chunks:
                yield decode(chunk, Progress)
    except msgspec.DecodeError as error:
        raise Failure(f"The controller sent what this command does not understand: {error}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
