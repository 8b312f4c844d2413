"""Links between simulated processes: in order within one link, late, and in any order between links.

A link has a delay of its own. It is lost only by being closed, like a Unix socket. An end whose process is stopped
takes nothing in until the process goes on.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from eagleray.rpc.client import Client

Accept = Callable[[], asyncio.BaseProtocol]

MAX_DELAY_S = 0.04


class Process:
    """Whoever can dial and listen: it has ends of links, can be stopped, and ends once."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.alive = True
        self.is_child = False
        self.stopped = False
        self.was_stopped = False
        self.ends: list[End] = []
        self._paths: list[str] = []

    def listen(self, path: str, accept: Accept) -> None:
        """Connections to `path` get the protocol that `accept` returns."""
        self.network.servers[path] = (self, accept)
        self._paths.append(path)

    def dial(self, address: str, protocol: asyncio.BaseProtocol) -> None:
        """What `Client.connect` takes as `dial`."""
        self.network.dial(self, address.removeprefix("unix:"), protocol)

    @property
    def connect(self) -> Callable[..., Any]:
        """`Client.connect` of this process."""
        return partial(Client.connect, dial=self.dial)

    def stop(self) -> None:
        """As by SIGSTOP."""
        self.stopped = self.was_stopped = True

    def go_on(self) -> None:
        self.stopped = False
        for end in tuple(self.ends):
            end.pump()

    def vanish(self) -> None:
        """The kernel closes what a dead process had open."""
        self.alive = False
        for path in self._paths:
            if self.network.servers.get(path, (None,))[0] is self:
                del self.network.servers[path]
        for end in tuple(self.ends):
            end.close()


class End(asyncio.Transport):
    """One end of a link; it calls its protocol as asyncio's transports do."""

    def __init__(self, process: Process, delay_s: float) -> None:
        super().__init__({})
        self.process = process
        self.peer: End
        self.protocol: Any = None
        self._loop = asyncio.get_running_loop()
        self._delay_s = delay_s
        self._arrived: deque[bytes | None] = deque()
        self._due = 0
        self._closing = False
        process.ends.append(self)

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
        self.protocol.connection_made(self)
        self.pump()

    def accept(self, accept: Accept) -> None:
        if self.process.alive and not self._closing:
            self.begin(accept())
        else:
            self.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def _send(self, data: bytes | None) -> None:
        self.peer._arrived.append(data)
        self._loop.call_later(self._delay_s, self.peer._arrive)

    def _arrive(self) -> None:
        self._due += 1
        self.pump()

    def pump(self) -> None:
        """Takes in what has arrived, unless the process is stopped."""
        while self._due and not self._closing and not self.process.stopped and self.protocol is not None:
            self._due -= 1
            data = self._arrived.popleft()
            if data is not None:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.process.ends.remove(self)
        self._send(None)
        self._loop.call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def _lost(self) -> None:
        if self.protocol is not None:
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Links are never full."""

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol


class Network:
    """All servers by path. Delays of links are drawn from `rng`: those to a child are at most `MAX_DELAY_S`, those to
    the controller can be much longer, as when a router is busy.
    """

    _DELAYS_S = (0.00005, 0.0003, 0.002, MAX_DELAY_S / 2)
    _CONTROL_DELAYS_S = (0.0003, 0.002, 0.02, 0.15)

    def __init__(self, rng: random.Random) -> None:
        self.servers: dict[str, tuple[Process, Accept]] = {}
        self._rng = rng

    def dial(self, process: Process, path: str, protocol: asyncio.BaseProtocol) -> None:
        """ConnectionRefusedError where nobody listens."""
        found = self.servers.get(path)
        if found is None or not found[0].alive or not process.alive:
            raise ConnectionRefusedError(f"nobody listens at {path}")
        server, accept = found
        choices = self._DELAYS_S if server.is_child else self._CONTROL_DELAYS_S
        delay_s = self._rng.choice(choices) * (1 + self._rng.random())
        near, far = End(process, delay_s), End(server, delay_s)
        near.peer, far.peer = far, near
        asyncio.get_running_loop().call_later(delay_s, far.accept, accept)
        near.begin(protocol)


class Listener:
    """As much of a listening Unix socket as `Server.start` needs; `VirtualLoop.create_unix_server` opens it."""

    family = socket.AF_UNIX

    def __init__(self, process: Process, path: str) -> None:
        self._process = process
        self._path = path

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def open(self, accept: Accept) -> Listener:
        self._process.listen(self._path, accept)
        return self

    def close(self) -> None:
        """The path goes with its process."""

    async def wait_closed(self) -> None:
        """It is closed at once."""
