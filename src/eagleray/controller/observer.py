"""Watches the instances, their processes through the engine and their connections through EOF, and reports events.

A connection that ends takes its replica out of rotation at once; that the process is gone the engine says later.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from eagleray.controller.last_words import last_line
from eagleray.engine.base import Engine
from eagleray.reconcile.events import Event, Happened, Suspended
from eagleray.reconcile.instance import Trigger
from eagleray.rpc.client import Client
from eagleray.wire.control import Exited

Connect = Callable[..., Awaitable[Client]]
"""`Client.connect`, or the same over another network."""


_REMEMBERED = 1000
"""Refs that were killed; most are gone a moment later, some were gone before."""


class Observer:
    """Owns the control connections. `post` takes events; `log_of` names the log of an instance for people."""

    def __init__(
        self,
        engine: Engine,
        post: Callable[[Event], None],
        log_of: Callable[[str], str],
        connect: Connect = Client.connect,
    ) -> None:
        self._engine = engine
        self._connect = connect
        self._post = post
        self._log_of = log_of
        self._clients: dict[str, Client] = {}
        self.on_dialled: Callable[[str, Client], object] = _nothing
        """Called with each new connection."""
        self.on_exit: Callable[[str], object] = _nothing
        """Called with each child that has ended."""
        self._announced: set[str] = set()
        self._exits: dict[str, asyncio.Future[Exited]] = {}
        self._killed: deque[str] = deque(maxlen=_REMEMBERED)
        self._lost: deque[str] = deque(maxlen=_REMEMBERED)
        engine.on_suspended = lambda ref, stopped: post(Suspended(ref, stopped))

    async def watch_exits(self) -> None:
        """Runs until the engine is closed or has died."""
        async for exited in self._engine.exits():
            waiting = self._exits.get(exited.ref)
            if waiting is not None and not waiting.done():
                waiting.set_result(exited)
            self.drop(exited.ref)
            self.on_exit(exited.ref)
            self._post(Happened(exited.ref, Trigger.EXITED, self._how(exited)))

    def _how(self, exited: Exited) -> str:
        was_meant = exited.ref in self._killed
        how, log = describe(exited, was_meant=was_meant), self._log_of(exited.ref)
        if not log:
            return how
        # In order it ends with 0. The log is a local file, and a few of its bytes take no time.
        last = last_line(log) if exited.status != 0 and not was_meant else ""
        return f"{how} (log: {log}{f', which ends with: {last}' if last else ''})"

    async def stop(self, ref: str, signum: int) -> None:
        """As `Engine.stop`; an end by SIGKILL that follows is not taken for one that nobody wanted, unless the
        connection had ended by itself: then the process was most likely dead before.
        """
        if signum == signal.SIGKILL and ref not in self._lost:
            self._killed.append(ref)
        await self._engine.stop(ref, signum)

    @contextlib.contextmanager
    def exit_of(self, ref: str) -> Iterator[asyncio.Future[Exited]]:
        """The end of the child `ref`, to be asked for before it is started; one caller at a time."""
        waiting = self._exits[ref] = asyncio.get_running_loop().create_future()
        try:
            yield waiting
        finally:
            del self._exits[ref]
            waiting.cancel()

    async def dial(self, ref: str, address: str) -> Client:
        """The connection with an instance. Its end is no news before `announce`. Raises OSError or EaglerayError."""
        client = self.client(ref)
        if client is None:
            client = await self._connect(address, on_close=lambda ended: self._on_close(ref, ended))
            self._clients[ref] = client
            self.on_dialled(ref, client)
        return client

    def announce(self, ref: str) -> None:
        """From now on the end of its connection is reported as LOST."""
        if self.client(ref) is None:
            self._post(Happened(ref, Trigger.LOST, "its control connection ended"))
        else:
            self._announced.add(ref)

    def client(self, ref: str) -> Client | None:
        client = self._clients.get(ref)
        return None if client is None or client.closed else client

    def _on_close(self, ref: str, client: Client) -> None:
        if self._clients.get(ref) is client:
            del self._clients[ref]
            if ref in self._announced:
                self._announced.discard(ref)
                self._lost.append(ref)
                self._post(Happened(ref, Trigger.LOST, "its control connection ended"))

    def drop(self, ref: str) -> None:
        """Closes the connection without reporting it."""
        self._announced.discard(ref)
        client = self._clients.pop(ref, None)
        if client is not None:
            client.close()

    def close(self) -> None:
        for ref in list(self._clients):
            self.drop(ref)


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


def describe(exited: Exited, *, was_meant: bool = False) -> str:
    """`its process 12 ended with exit code 3`, or by which signal."""
    if exited.status >= 0:
        return f"its process {exited.pid} ended with exit code {exited.status}"
    try:
        name = signal.Signals(-exited.status).name
    except ValueError:
        name = f"signal {-exited.status}"
    hint = ""
    if -exited.status == signal.SIGKILL and not was_meant:
        hint = ", probably because the machine or its cgroup is out of memory: see dmesg, and give it less or more"
    return f"its process {exited.pid} was ended by {name}{hint}"
