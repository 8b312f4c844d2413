"""An Engine whose children live in this process: each answers control calls on its own Unix socket.

What it promises of the Engine protocol is checked beside it (`tests/unit/controller/test_fake_engine.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable

from eagleray.base.tasks import Tasks
from eagleray.engine.base import Capacity, EngineError
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.control import (
    Built,
    Drain,
    Empty,
    Exited,
    Health,
    Ready,
    Reconfigure,
    ReplicaLaunch,
    StartChild,
    Started,
    decode,
)


class FakeChild:
    """A replica, proxy or builder without a process."""

    def __init__(self, engine: FakeEngine, request: StartChild, started: Started) -> None:
        self.engine = engine
        self.request = request
        self.started = started
        self.reconfigured: list[Reconfigure] = []
        self.drained: list[float] = []
        methods = ControlMethods(
            {
                "ready": self._ready,
                "check_health": self._check_health,
                "reconfigure": self._reconfigure,
                "drain": self._drain,
                "build": self._build,
            }
        )
        self._methods = methods
        self.server = Server(methods.dispatch)
        self.is_up = asyncio.Event()

    @property
    def launch(self) -> ReplicaLaunch:
        return decode(self.request.payload, ReplicaLaunch)

    async def _ready(self, payload: bytes, incoming: Incoming) -> Ready:
        await self.engine.gate.wait()
        return Ready(error=self.engine.ready_error(self), pid=self.started.pid)

    async def _check_health(self, payload: bytes, incoming: Incoming) -> Health:
        self.engine.health_checks += 1
        return Health(error=self.engine.health_error(self))

    async def _reconfigure(self, payload: bytes, incoming: Incoming) -> Ready:
        self.reconfigured.append(decode(payload, Reconfigure))
        return Ready(error=self.engine.reconfigure_error(self))

    async def _drain(self, payload: bytes, incoming: Incoming) -> Empty:
        self.drained.append(decode(payload, Drain).timeout_s)
        self.engine.touched.set()
        asyncio.get_running_loop().call_soon(self.engine.end, self.started.ref, 0)
        return Empty()

    async def _build(self, payload: bytes, incoming: Incoming) -> Built:
        asyncio.get_running_loop().call_soon(self.engine.end, self.started.ref, 0)
        return self.engine.build(self)

    async def listen(self) -> None:
        if self.request.listen:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.request.listen)
            listener.listen()
            await self.server.start(listener)
        self.is_up.set()

    async def close(self) -> None:
        await self.is_up.wait()
        await self._methods.close()
        await self.server.close()


class FakeEngine:
    """The hooks (`ready_error` ...) say how children behave; `history` has what was started, in order."""

    def __init__(self, capacity: Capacity | None = None) -> None:
        self.living: dict[str, FakeChild] = {}
        self.history: list[FakeChild] = []
        self.ready_error: Callable[[FakeChild], str] = lambda child: ""
        self.health_error: Callable[[FakeChild], str] = lambda child: ""
        self.reconfigure_error: Callable[[FakeChild], str] = lambda child: ""
        self.start_error: Callable[[StartChild], EngineError | None] = lambda request: None
        self.built = Built(error="nothing to build")
        self.build: Callable[[FakeChild], Built] = lambda child: self.built
        self.health_checks = 0
        self.was_shut_down = False
        self.has_listeners = True
        self.on_suspended: Callable[[str, bool], None] = lambda ref, stopped: None
        self.on_leaving: Callable[[], None] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()
        self._capacity = capacity or Capacity(num_cpus=2, memory_bytes=1 << 30)
        self._exits: asyncio.Queue[Exited | None] = asyncio.Queue()
        self._tasks = Tasks("fake engine")
        self._pids = 1000
        self._dying: set[str] = set()
        self.touched = asyncio.Event()

    async def start(self, request: StartChild) -> Started:
        if request.ref in self.living:
            raise EngineError("exists", f"{request.ref} lives")
        self.touched.set()
        error = self.start_error(request)
        if error is not None:
            raise error
        self._pids += 1
        started = Started(ref=request.ref, pid=self._pids, http_address=request.http)
        child = FakeChild(self, request, started)
        self.history.append(child)
        self.living[request.ref] = child
        # A controller that dies meanwhile does not keep a process from starting.
        await asyncio.shield(self._tasks.start(child.listen(), name=f"start {request.ref}"))
        return started

    async def stop(self, ref: str, signum: int = signal.SIGTERM) -> None:
        self.end(ref, -signum)

    def end(self, ref: str, status: int) -> None:
        """The child's process ends: its socket goes, then its exit is reported."""
        child = self.living.pop(ref, None)
        if child is not None:
            self._dying.add(ref)
            self._tasks.start(self._bury(child, status), name=f"bury {ref}")

    async def _bury(self, child: FakeChild, status: int) -> None:
        await child.close()
        if child.request.listen:
            os.unlink(child.request.listen)
        self._exits.put_nowait(Exited(ref=child.started.ref, pid=child.started.pid, status=status))
        self._dying.discard(child.started.ref)
        self.touched.set()

    async def children(self) -> list[Started]:
        return [child.started for child in self.living.values()]

    async def close_listeners(self) -> None:
        self.has_listeners = False

    async def exits(self) -> AsyncIterator[Exited]:
        while (exited := await self._exits.get()) is not None:
            yield exited

    def capacity(self) -> Capacity:
        return self._capacity

    async def shutdown(self) -> None:
        self.was_shut_down = True

    async def close(self) -> None:
        """Lets the consumer of `exits` end, and the children too."""
        for ref in list(self.living):
            self.end(ref, -signal.SIGKILL)
        await self.until(lambda: not self._dying)
        self._exits.put_nowait(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits, for at most 10 s, until `condition` holds; looks again whenever a child has been touched."""
        async with asyncio.timeout(10.0):
            while not condition():
                self.touched.clear()
                await self.touched.wait()

    def replicas(self) -> list[FakeChild]:
        return [child for child in self.living.values() if child.started.ref.startswith("replica-")]
