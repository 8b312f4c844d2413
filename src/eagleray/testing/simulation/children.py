"""What node would start: replicas and proxies without code of a user's, which speak the real protocol.

How a replica fares follows from its version: those whose name begins with `bad` raise in the constructor, `dead` die in
it, `flaky` fail every other time. All else is drawn from a generator of its own, so that one replica's luck does not
depend on what others did before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.routing.router import Router
from eagleray.routing.subscription import Subscription
from eagleray.rpc.client import Client, ClientStream
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server, ServerConnection
from eagleray.rpc.unix import calls_path
from eagleray.testing.simulation.network import MAX_DELAY_S, Process
from eagleray.wire.control import (
    BuilderLaunch,
    Built,
    Drain,
    Empty,
    Health,
    Ready,
    Reconfigure,
    ReplicaLaunch,
    StartChild,
    decode,
)
from eagleray.wire.messages import DRAINING, REJECTED, CallHead, ErrorHead, ReplyHead
from eagleray.wire.recycling import Expire
from eagleray.wire.streams import CallHandler

if TYPE_CHECKING:
    from eagleray.testing.simulation.machine import Machine

TRACEBACK = "Traceback (most recent call last):\nValueError: no weights"


class Child(Process):
    """A process that node has started. `end` is its only end, whoever wishes it."""

    def __init__(self, machine: Machine, request: StartChild, pid: int) -> None:
        super().__init__(machine.network, request.ref)
        self.is_child = True
        self.machine = machine
        self.request = request
        self.ref = request.ref
        self.pid = pid
        self.rng = random.Random(f"{machine.seed}/{pid}")
        self.draining = False
        self.is_up = False
        self.expired = ""
        self.tasks = Tasks(self.ref)
        self.control = ControlMethods(self.methods(), name=self.ref)
        self.server = Server(self.control.dispatch)
        self._thaw = asyncio.Event()
        self._thaw.set()
        self.serve(request.listen, self.server)

    def methods(self) -> dict[str, Callable[[bytes, Incoming], Awaitable[Any]]]:
        return {
            "ready": self.ready,
            "check_health": self.check_health,
            "reconfigure": self.reconfigure,
            "drain": self.drain,
        }

    def serve(self, path: str, server: Server) -> None:
        self.listen(path, lambda: ServerConnection(server, server._on_call, None))

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.start(work, name=name)

    async def pause(self, seconds: float) -> None:
        """Time as the process has it: none passes at the end of a stop before it goes on."""
        await asyncio.sleep(seconds)
        await self._thaw.wait()

    def stop(self) -> None:
        super().stop()
        self._thaw.clear()
        self.machine.suspended(self)

    def go_on(self) -> None:
        super().go_on()
        self._thaw.set()
        if self.alive:
            self.machine.suspended(self)

    async def check_health(self, body: bytes, incoming: Incoming) -> Health:
        return Health(error="it feels sick" if self.ref in self.machine.sick else "", expired=self.expired)

    async def ready(self, body: bytes, incoming: Incoming) -> Ready:
        raise NotImplementedError

    async def reconfigure(self, body: bytes, incoming: Incoming) -> Ready:
        raise NotImplementedError

    async def drain(self, body: bytes, incoming: Incoming) -> Empty:
        raise NotImplementedError

    def end(self, status: int) -> None:
        if self.alive:
            self.vanish()
            self.machine.buried(self, status)
            self.machine.bury(self.close())

    async def close(self) -> None:
        """After the end: what is left of it in this process."""
        await self.control.close()
        await self.tasks.close()


class SimReplica(Child):
    """Takes `max_ongoing_requests` calls at a time, each for as long as it drew for it."""

    def __init__(self, machine: Machine, request: StartChild, pid: int) -> None:
        self.launch = decode(request.payload, ReplicaLaunch)
        self.up = asyncio.Event()
        self.error = ""
        self.ongoing = 0
        self.taken = 0
        self.limit = self.launch.max_ongoing_requests
        self.idle = asyncio.Event()
        self.idle.set()
        self.calls = Server(self._on_call)
        self._refused: dict[Any, None] = {}
        super().__init__(machine, request, pid)
        self.run(self._start(), "start")

    async def _start(self) -> None:
        version = self.launch.version
        await self.pause(self.rng.choice((0.01, 0.2, 1.0, 5.0)) * self.rng.random())
        is_flaky = version.startswith("flaky") and self.rng.random() < 0.5
        if version.startswith("dead"):
            self.end(1)
        elif version.startswith("bad") or is_flaky:
            self.error = TRACEBACK
        else:
            self.serve(calls_path(self.request.listen), self.calls)
            self.is_up = True
        self.up.set()

    async def ready(self, body: bytes, incoming: Incoming) -> Ready:
        await self.up.wait()
        return Ready(error=self.error, pid=self.pid)

    async def reconfigure(self, body: bytes, incoming: Incoming) -> Ready:
        change = decode(body, Reconfigure)
        await self.pause(self.rng.random())
        if change.user_config is not None and b"refuse" in change.user_config:
            return Ready(error=TRACEBACK)
        if change.max_ongoing_requests is not None:
            self.limit = change.max_ongoing_requests
        return Ready(pid=self.pid)

    async def drain(self, body: bytes, incoming: Incoming) -> Empty:
        timeout_s = decode(body, Drain).timeout_s
        self.draining = True
        self.calls.goaway()
        if self.launch.version.startswith("deaf"):
            self.machine.explain(self.ref, "it never ends its drain")
            await asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self.idle.wait()
        except TimeoutError:
            self.machine.explain(self.ref, "it was not done within its graceful_shutdown_timeout_s")
        # On one machine what was written to a socket is there to be read when the drain begins, and is refused. Here it
        # may still be under way, on the slowest of links.
        await self.pause(2 * MAX_DELAY_S)
        self.run(self._leave(), "leave")
        return Empty()

    async def _leave(self) -> None:
        await self.pause(0.01 * self.rng.random())
        self.end(0)

    # ---- calls -------------------------------------------------------------------------------------------------

    def _on_call(self, incoming: Incoming) -> None:
        if self.draining:
            incoming.fail(ErrorHead(DRAINING, "", self.ongoing))
        elif self.ongoing >= self.limit:
            self._refused[incoming.connection] = None
            incoming.fail(ErrorHead(REJECTED, "", self.ongoing))
        else:
            self.ongoing += 1
            self.taken += 1
            if self.taken == self.launch.max_requests:
                self.run(self._expire(), "expire")
            self.idle.clear()
            self.machine.ledger.executed(incoming.head.request_id, self.ref)
            self.run(self._answer(incoming), "call")

    async def _expire(self) -> None:
        """Should the controller be away, the next health check tells it."""
        self.expired = f"it has taken {self.taken} requests"
        message = Expire(replica_id=self.launch.replica_id, reason=self.expired)
        try:
            client = await Client.connect(self.machine.controller_address, dial=self.dial)
            try:
                await client.request("expire", message, Empty, timeout_s=30.0)
            finally:
                client.close()
        except (OSError, EaglerayError):
            pass

    async def _answer(self, incoming: Incoming) -> None:
        await self.pause(self.rng.choice((0.001, 0.05, 0.5)) * (0.5 + self.rng.random()))
        self.ongoing -= 1
        if not self.ongoing:
            self.idle.set()
        incoming.reply(ReplyHead(load=self.ongoing, status=200))
        refused, self._refused = self._refused, {}
        for session in refused:
            if not session.closed:
                session.room()


class SimBuilder(Child):
    """Gives the application that its config's `args` hold, after a while, and ends."""

    def methods(self) -> dict[str, Callable[[bytes, Incoming], Awaitable[Any]]]:
        return {"build": self.build}

    async def build(self, body: bytes, incoming: Incoming) -> Built:
        await self.pause(self.rng.choice((0.01, 0.5, 3.0)) * self.rng.random())
        self.run(self._leave(), "leave")
        launch = decode(self.request.payload, BuilderLaunch)
        return Built(spec=launch.args["spec"].encode())

    async def _leave(self) -> None:
        await self.pause(0.01 + 2 * MAX_DELAY_S)
        self.end(0)


class WatchedClient(Client):
    """A router's connection to a replica: tells the machine of every call that is sent on it."""

    owner: SimRouter

    def call(
        self, head: CallHead, body: bytes = b"", *, end: bool = True, handler: CallHandler
    ) -> ClientStream:
        self.owner.sending(self.address, head)
        return super().call(head, body, end=end, handler=handler)


class SimRouter:
    """A real router and its real subscription in the process `process`."""

    def __init__(self, machine: Machine, process: Process, address: str) -> None:
        self.machine = machine
        self.process = process
        self.router = Router(self._connect, clock=asyncio.get_running_loop().time)
        self.subscription = Subscription(self.router, address, process.name, process.connect)

    async def _connect(self, address: str, **options: Any) -> Client:
        client = await WatchedClient.connect(address, dial=self.process.dial, **options)
        assert isinstance(client, WatchedClient)
        client.owner = self
        return client

    def sending(self, address: str, head: CallHead) -> None:
        """A call goes to a replica: it must be listed in the table, and not have been told to drain."""
        listed = {
            replica.address for entry in self.router.table.deployments.values() for replica in entry.replicas
        }
        self.machine.routed(self.process, address, address in listed, head.request_id)

    async def close(self) -> None:
        await self.subscription.close()
        await self.router.close()


class SimProxy(Child):
    """A proxy whose requests come from `load` instead of from sockets."""

    def __init__(self, machine: Machine, request: StartChild, pid: int) -> None:
        super().__init__(machine, request, pid)
        self.front = SimRouter(machine, self, machine.controller_address)

    async def ready(self, body: bytes, incoming: Incoming) -> Ready:
        await self.pause(0.1 * self.rng.random())
        if not self.is_up:
            await self.front.subscription.start()
        self.is_up = True
        return Ready(pid=self.pid)

    async def drain(self, body: bytes, incoming: Incoming) -> Empty:
        self.draining = True
        timeout_s = decode(body, Drain).timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self.machine.ledger.answered(self.ref)
        except TimeoutError:
            self.machine.explain(self.ref, "it was not done in time")
        self.run(self._leave(), "leave")
        return Empty()

    async def _leave(self) -> None:
        await self.pause(0.01)
        self.end(0)

    async def close(self) -> None:
        await self.front.close()
        await super().close()
