"""The make-believe machine: node with its children, the controller's process, the disk, and what faults do to them.

What it is told to do it does as node would; what it sees that must not be, it notes as a violation. `reasons` says of
every process that ended by a fault why its requests may be lost.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from eagleray.base.tasks import Tasks
from eagleray.controller.boot import run_controller
from eagleray.engine.base import Capacity, EngineError
from eagleray.reconcile.world import INSTANCES, World
from eagleray.store.base import StoreError
from eagleray.testing.simulation.children import Child, SimBuilder, SimProxy, SimReplica
from eagleray.testing.simulation.disk import Disk, SimStore
from eagleray.testing.simulation.ledger import Ledger
from eagleray.testing.simulation.loop import VirtualLoop
from eagleray.testing.simulation.network import Listener, Network, Process
from eagleray.wire.control import Exited, NodeConfig, StartChild, Started

_NODE_S = 0.002
"""How long node takes for what it is told."""
_RESTART_S = 0.1
"""How long it takes until a dead controller is up again."""

_MODULES: dict[str, type[Child]] = {
    "eagleray.replica.__main__": SimReplica,
    "eagleray.proxy.__main__": SimProxy,
    "eagleray.build": SimBuilder,
}


class LoopClock:
    """The controller's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time


def _tell(done: asyncio.Future[Started], started: Started) -> None:
    if not done.done():
        done.set_result(started)


class SimEngine:
    """One controller's way to node; it ends with the controller."""

    def __init__(self, machine: Machine, process: Process) -> None:
        self._machine = machine
        self._process = process
        self.reports: asyncio.Queue[Exited | None] = asyncio.Queue()
        self.on_suspended: Callable[[str, bool], None] = lambda ref, stopped: None
        self.on_leaving: Callable[[], None] = lambda: None

    async def start(self, request: StartChild) -> Started:
        done: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(_NODE_S, self._start, request, done)
        return await done

    def _start(self, request: StartChild, done: asyncio.Future[Started]) -> None:
        """A command that has been sent takes effect, also when the controller has died meanwhile."""
        try:
            started = self._machine.spawn(request)
        except EngineError as error:
            if not done.done():
                done.set_exception(error)
            return
        asyncio.get_running_loop().call_later(_NODE_S, _tell, done, started)

    async def stop(self, ref: str, signum: int = signal.SIGTERM) -> None:
        if self._process.alive:
            asyncio.get_running_loop().call_later(_NODE_S, self._machine.signal, ref, signum)

    async def children(self) -> list[Started]:
        for child in self._machine.children.values():
            if child.stopped:
                asyncio.get_running_loop().call_later(_NODE_S, self.on_suspended, child.ref, True)
        return [Started(ref=child.ref, pid=child.pid) for child in self._machine.children.values()]

    async def close_listeners(self) -> None:
        await asyncio.sleep(_NODE_S)

    async def exits(self) -> AsyncIterator[Exited]:
        while (exited := await self.reports.get()) is not None:
            yield exited

    def capacity(self) -> Capacity:
        return Capacity(num_cpus=2, memory_bytes=1 << 30, gpu_ids=("0", "1"))

    async def shutdown(self) -> None:
        self._machine.ended = True

    async def close(self) -> None:
        self.reports.put_nowait(None)


class Machine:
    """Belongs to one run. `make_world` makes the controller's world, `trace` takes a line of what happens."""

    controller_address = "unix:/run/controller.sock"

    def __init__(
        self,
        seed: int,
        loop: VirtualLoop,
        make_world: Callable[[Machine, str, str], World],
        trace: Callable[[str], None],
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.rng = random.Random(f"{seed}/machine")
        self.network = Network(random.Random(f"{seed}/network"))
        self.disk = Disk()
        self.ledger = Ledger(self)
        self.children: dict[str, Child] = {}
        self.reasons: dict[str, str] = {}
        self.sick: set[str] = set()
        self.violations: list[str] = []
        self.ended = False
        self.world: World | None = None
        """Of the newest controller."""
        self.acknowledged: dict[str, int] = {}
        """Application -> the generation whose deploy was acknowledged last, unless it may be deleted."""
        self.on_leaving: Callable[[str], None] = lambda key: None
        """Called with the key of a deployment of which a replica has just left the routing table."""
        self.disk_was_full = False
        self.were_listed: set[str] = set()
        """Replicas and proxies that requests could be sent to at some time."""
        self.started: list[str] = []
        self.controller: Process | None = None
        self.lives = 0
        self._trace = trace
        self._make_world = make_world
        self._engine: SimEngine | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks = Tasks("machine")
        self._pids = 1000
        loop.disk_s = lambda: self.rng.choice((0.0001, 0.001, 0.01))

    def trace(self, line: str) -> None:
        self._trace(f"{self.loop.time() - 1000:9.4f} {line}")

    def violated(self, text: str) -> None:
        self.trace(f"VIOLATED: {text}")
        self.violations.append(f"at {self.loop.time() - 1000:.4f} s: {text}")

    def explain(self, ref: str, reason: str) -> None:
        self.trace(f"{ref}: {reason}")
        self.reasons.setdefault(ref, reason)

    # ---- the controller ------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Starts a controller; when it ends and nobody has shut the instance down, another one follows."""
        self._task = self._tasks.start(self._keep_controller(), name="controller")

    async def _keep_controller(self) -> None:
        while not self.ended:
            try:
                await self._run_controller()
            except StoreError as error:  # its process ends with a traceback; node starts another one
                self.trace(f"the controller cannot start: {error}")
                await asyncio.sleep(_RESTART_S)

    async def _run_controller(self) -> None:
        self.lives += 1
        process = self.controller = Process(self.network, f"controller-{self.lives}")
        engine = self._engine = SimEngine(self, process)
        config = NodeConfig(runtime_dir="/run", state_dir="/state", logs_dir="/logs")
        store = SimStore(self.disk, lambda: process.alive)
        listener = Listener(process, self.controller_address.removeprefix("unix:"))
        try:
            await run_controller(
                config,
                engine,
                store,
                listener,  # type: ignore[arg-type]  # as much of a socket as is needed
                LoopClock(self.loop),
                process.connect,
                lambda seed, life: self._make_world(self, seed, life),
            )
        finally:
            if self._engine is engine:
                self._engine = None
            process.vanish()

    async def crash(self) -> None:
        """Kills the controller like SIGKILL, and starts another one."""
        await self.kill_controller()
        await asyncio.sleep(_RESTART_S * (0.5 + self.rng.random()))
        self.boot()

    async def kill_controller(self) -> None:
        self.trace("the controller is killed")
        process, self._engine = self.controller, None
        if process is not None:
            process.vanish()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # ---- node ----------------------------------------------------------------------------------------------------

    def spawn(self, request: StartChild) -> Started:
        ref = request.ref
        if ref in self.children:
            raise EngineError("exists", f"{ref} lives")
        if ref in self.started:
            self.violated(f"{ref} is started a second time")
        if (INSTANCES, ref) not in self.disk.rows and _MODULES[request.module] is not SimBuilder:
            self.violated(f"{ref} is started before its row is durable")
        self.started.append(ref)
        self._pids += 1
        self.trace(f"{ref} is started")
        self.children[ref] = _MODULES[request.module](self, request, self._pids)
        return Started(ref=ref, pid=self._pids, http_address=request.http)

    def signal(self, ref: str, signum: int) -> None:
        child = self.children.get(ref)
        if child is None:
            return
        if ref in self.were_listed and ref not in self.reasons:
            self.violated(f"{ref} is sent signal {signum} although it is up and nothing is wrong with it")
        self.explain(ref, f"it was sent signal {signum}")
        child.end(-signum)

    def buried(self, child: Child, status: int) -> None:
        """A child has ended: node tells the controller that is attached then."""
        del self.children[child.ref]
        self.trace(f"{child.ref} has ended: {status}")
        engine = self._engine
        if engine is not None:
            exited = Exited(ref=child.ref, pid=child.pid, status=status)
            self.loop.call_later(_NODE_S, engine.reports.put_nowait, exited)

    def bury(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.start(work, name="bury")

    def kill(self, ref: str, reason: str) -> None:
        """A fault: the child dies."""
        child = self.children.get(ref)
        if child is not None:
            self.explain(ref, reason)
            child.end(-signal.SIGKILL)

    def suspended(self, child: Child) -> None:
        """A child was stopped by a signal or goes on: node tells the controller that is attached then."""
        engine = self._engine
        if engine is not None:
            self.loop.call_later(_NODE_S, lambda: engine.on_suspended(child.ref, child.stopped))

    def routed(self, router: Process, address: str, is_listed: bool, request_id: str) -> None:
        """A router sends a request to the replica at `address`."""
        ref = address.removeprefix("unix:/run/").removesuffix(".calls.sock")
        child = self.children.get(ref)
        if not is_listed:
            self.violated(f"{router.name} sends {request_id} to {ref}, which its table does not list")
        elif (
            child is not None
            and child.draining
            and not router.was_stopped
            and router.name not in self.reasons
        ):
            # One whose link to the controller was cut is not waited for; the replica refuses what it sends.
            self.violated(f"{router.name} sends {request_id} to {ref}, which was told to drain")

    async def close(self) -> None:
        """Ends all that is left."""
        await self.kill_controller()
        for child in list(self.children.values()):
            self.explain(child.ref, "the run is over")
            child.end(-signal.SIGKILL)
        await self._tasks.join()
