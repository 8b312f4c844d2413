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
import threading
from collections.abc import AsyncIterator

import msgspec

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.cli.interrupt import INTERRUPTED
from eagleray.cli.plan import Plan
from eagleray.cli.watch import changes
from eagleray.engine.spawn import NodeProcess
from eagleray.rpc.client import Client
from eagleray.wire.control import (
    Accepted,
    ApplyConfig,
    DeployImport,
    Empty,
    InstanceInfo,
    Progress,
    WaitApplications,
    decode,
)

SERVED, FAILED = 0, 1

_SHUTDOWN_S = 30.0
"""Seconds for an orderly end; then node is told to hurry."""


class Failure(Exception):
    """The application could not be served; the text is for the user."""


class Driver:
    """One run of the command with its node; `run` returns the exit code. The node's end is the caller's."""

    def __init__(self, plan: Plan, node: NodeProcess) -> None:
        self._plan = plan
        self._node = node
        self._stop = asyncio.Event()
        self._served = asyncio.Event()
        self._tasks = Tasks("driver")

    def run(self, stop_asked: threading.Event) -> int:
        """Until the end of it. `stop_asked` is set by a signal for as long as no loop hears of it."""
        return asyncio.run(self._main(stop_asked))

    async def _main(self, stop_asked: threading.Event) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._stop.set)
        if stop_asked.is_set():
            self._stop.set()
        serving = self._tasks.start(self._serve(), name="serve")
        stopping = self._tasks.start(self._stop.wait(), name="wait for a signal")
        gone = self._tasks.start(self._node.wait(), name="wait for node")
        try:
            await asyncio.wait({serving, stopping, gone}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return await self._interrupted(serving)
            if serving.done():
                return serving.result()
            _say(f"Eagleray's supervisor has died. Its log: {self._node.logs_dir}")
            return FAILED
        finally:
            await self._tasks.close()

    async def _interrupted(self, serving: asyncio.Task[int]) -> int:
        serving.cancel()
        await asyncio.wait({serving})
        if self._served.is_set():
            _say("\nStopping ...")
        await self._shut_down()
        return SERVED if self._served.is_set() else INTERRUPTED

    async def _serve(self) -> int:
        client = None
        try:
            client = await self._connect()
            self._tasks.start(_hold(client), name="own the instance")
            await self._deploy_and_watch(client)
            return SERVED
        except Failure as failure:
            _say(str(failure))
            await self._shut_down()
            return FAILED
        finally:
            if client is not None:
                client.close()

    async def _connect(self) -> Client:
        try:
            await self._node.wait_ready()
            return await Client.connect(self._node.controller_address)
        except (OSError, EaglerayError) as error:
            raise Failure(f"Eagleray could not start: {error}\nLogs: {self._node.logs_dir}") from error

    async def _deploy_and_watch(self, client: Client) -> None:
        """Serves until it is cancelled. Changes count from before the application is built."""
        reloading = None
        if self._plan.reload:
            reloading = self._tasks.start(self._reload(), name="reload")
            await asyncio.sleep(0)  # lets it begin to watch
        await self._deploy(client)
        info = await self._address(client)
        self._served.set()
        self._announce(info)
        await (reloading or asyncio.Event().wait())

    async def _deploy(self, client: Client) -> None:
        """Raises Failure unless the application runs; of a config file, unless at least one does."""
        plan, config = self._plan, self._plan.config
        if config is None:
            request: DeployImport | ApplyConfig = DeployImport(
                import_path=plan.import_path,
                args=dict(plan.arguments),
                name=plan.name,
                route_prefix=plan.route_prefix,
                sys_path=[plan.app_dir],
                reload=plan.reload,
                env_vars=plan.env_vars,
            )
            method = "deploy_import"
        else:
            request = ApplyConfig(config=config.data, sys_path=[plan.app_dir], source=config.source)
            method = "apply_config"
        try:
            accepted = await client.request(method, request, Accepted, timeout_s=None)
            if accepted.error:
                raise Failure(accepted.error)
            failures = [text for name in plan.applications if (text := await self._follow(client, name))]
        except EaglerayError as error:
            raise Failure(
                f"The controller was lost while it deployed {self._what}: {error}\nLogs: {self._node.logs_dir}"
            ) from error
        if failures and len(failures) == len(plan.applications):
            raise Failure("\n".join(failures))
        for text in failures:
            _say(text)

    async def _follow(self, client: Client, name: str) -> str:
        """Waits until an application runs, or does not: then why."""
        async for progress in _progress(client, name):
            if progress.message and not progress.done:
                _say(progress.message)
            if progress.done and progress.outcome != "running":
                reason = progress.message.rstrip()
                return f"Deploying application {name} failed: {reason}\nLogs: {self._node.logs_dir}"
        return ""

    @property
    def _what(self) -> str:
        return self._plan.name if self._plan.config is None else self._plan.config.source

    async def _address(self, client: Client) -> InstanceInfo:
        try:
            info = await client.request("info", Empty(), InstanceInfo, timeout_s=None)
        except EaglerayError as error:
            raise Failure(f"The controller was lost: {error}\nLogs: {self._node.logs_dir}") from error
        if info.http_error:
            raise Failure(info.http_error)
        if info.grpc_error:
            raise Failure(info.grpc_error)
        return info

    def _announce(self, info: InstanceInfo) -> None:
        applications = self._plan.applications
        for name, prefix in applications.items():
            if prefix is None or not info.http_url:
                print(f"  App    {name} (no HTTP route)")
                continue
            url = info.http_url.rstrip("/") + prefix
            if len(applications) == 1:
                print(f"  App    {url}\n  Try    curl {url}")
            else:
                print(f"  App    {url}  {name}")
        if info.grpc_address:
            print(f"  gRPC   {info.grpc_address}")
        print(f"  Logs   {info.logs_dir}\n  Stop   Ctrl-C", flush=True)

    async def _reload(self) -> None:
        """Redeploys at every change; a broken version is reported and the running one stays."""
        async for changed in changes(self._plan.app_dir):
            await self._served.wait()
            names = sorted(path.removeprefix(f"{self._plan.app_dir}/") for path in changed)
            _say(f"Reloading: {', '.join(names)}")
            try:
                client = await self._connect()  # a new one: the controller may have restarted since
                try:
                    await self._deploy(client)
                finally:
                    client.close()
                _say("Reloaded.")
            except Failure as failure:
                _say(f"{failure}\nThe version before goes on serving; save again to retry.")

    async def _shut_down(self) -> None:
        """Ends the instance in order; a second signal or too long a wait ends it at once."""
        self._stop.clear()
        orderly = self._tasks.start(_shut_down(self._node), name="shut down")
        hurry = self._tasks.start(self._stop.wait(), name="wait for a second signal")
        await asyncio.wait({orderly, hurry}, timeout=_SHUTDOWN_S, return_when=asyncio.FIRST_COMPLETED)
        self._node.terminate()
        await self._node.wait()


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
