"""Connections within one process, without sockets: the same protocols on transports whose other end is in memory.

For local testing, where router, proxy and replicas are threads of one process. An end belongs to an event loop
(`LocalTransport`) or to threads that block (`LocalSocket`, which is enough of a socket for http.client). Ends share
two pipes and no lock: each side publishes what it has done before it looks at what the other one waits for.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from eagleray.rpc.bridge import Bridge

Accept = Callable[[], asyncio.BaseProtocol]

_HIGH_WATER = 64 * 1024
"""asyncio's own default, where a protocol sets none."""
_CLIENT, _SERVER = ("127.0.0.1", 1), ("127.0.0.1", 80)
"""Addresses that HTTP applications see."""


class Pipe:
    """One direction. `None` in `queue` is its end. `written` belongs to the writer, all else to the reader."""

    __slots__ = ("closed", "on_room", "queue", "taken", "wake", "written")

    def __init__(self) -> None:
        self.queue: deque[bytes | None] = deque()
        self.written = 0
        self.taken = 0
        self.closed = False
        """The reader has gone: what is written goes nowhere."""
        self.wake: Callable[[], object] | None = None
        """Tells the reader, from any thread, that there is something in the queue."""
        self.on_room: Callable[[], object] | None = None
        """Tells the writer, from any thread, that something was taken; set while it waits for that."""

    @property
    def unread(self) -> int:
        """Bytes that the reader has not taken yet."""
        return 0 if self.closed else self.written - self.taken

    def put(self, data: bytes | None) -> None:
        """From the writer: never blocks."""
        if self.closed:
            return
        if data is not None:
            self.written += len(data)
        self.queue.append(data)
        if self.wake is not None:
            self.wake()

    def take(self, size: int) -> None:
        """From the reader: it is done with so many bytes."""
        self.taken += size
        if self.on_room is not None:
            self.on_room()

    def close(self) -> None:
        """From the reader: it takes no more."""
        self.closed = True
        self.queue.clear()
        if self.on_room is not None:
            self.on_room()


class LocalTransport(asyncio.Transport):
    """One end of a connection, on the running loop. It calls its protocol as asyncio's own transports do."""

    def __init__(self, protocol: asyncio.BaseProtocol, incoming: Pipe, outgoing: Pipe) -> None:
        super().__init__({"peername": _CLIENT, "sockname": _SERVER})
        self._loop = asyncio.get_running_loop()
        self._bridge = Bridge(self._loop)
        self._protocol = protocol
        self._incoming = incoming
        self._outgoing = outgoing
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._reading = True
        self._waits_for_room = False
        self._closing = False

    def begin(self) -> None:
        """Tells the protocol, and delivers what has been written already."""
        self._protocol.connection_made(self)
        self._incoming.wake = self._wake
        self._wake()

    # ---- input -----------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._bridge.put(self._pump)

    def _pump(self) -> None:
        """Delivers what is there."""
        queue = self._incoming.queue
        while queue and self._reading and not self._closing:
            data = queue.popleft()
            if data is None:
                self._end_of_input()
            else:
                self._deliver(data)
                self._incoming.take(len(data))

    def _deliver(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            protocol: Any = self._protocol
            if not isinstance(protocol, asyncio.BufferedProtocol):
                protocol.data_received(bytes(rest))
                return
            buffer = memoryview(protocol.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    def _end_of_input(self) -> None:
        protocol: Any = self._protocol
        if not protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._wake()

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    # ---- output ----------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._outgoing.put(bytes(data))
        if not self._waits_for_room and self._outgoing.unread > self._high:
            self._waits_for_room = True
            self._protocol.pause_writing()
            self._outgoing.on_room = lambda: self._bridge.put(self._look_for_room)
            self._look_for_room()  # it may have been taken before anybody was to be told

    def _look_for_room(self) -> None:
        if self._waits_for_room and self._outgoing.unread <= self._low and not self._closing:
            self._waits_for_room = False
            self._outgoing.on_room = None
            self._protocol.resume_writing()

    def write_eof(self) -> None:
        self._outgoing.put(None)

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._outgoing.unread

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    # ---- the end ---------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What was written still arrives."""
        if self._closing:
            return
        self._closing = True
        self._outgoing.put(None)
        self._incoming.close()
        self._loop.call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def _lost(self) -> None:
        self._bridge.close()
        self._protocol.connection_lost(None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


class LocalNetwork:
    """The servers of one process by address. `dial` may be called on any loop, `listen` and `forget` anywhere."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[Bridge, Accept]] = {}

    def listen(self, address: str, loop: asyncio.AbstractEventLoop, accept: Accept) -> None:
        """Connections to `address` get the protocol that `accept` returns on `loop`."""
        self._servers[address] = Bridge(loop), accept

    def forget(self, address: str) -> None:
        """Nobody listens at `address` any more; connections stay. Idempotent."""
        self._servers.pop(address, None)

    def dial(self, address: str, protocol: asyncio.BaseProtocol) -> None:
        """Connects `protocol` to the server at `address`. ConnectionRefusedError where there is none."""
        forth, back = self._open(address)
        LocalTransport(protocol, back, forth).begin()

    def connect(self, address: str) -> LocalSocket:
        """As `dial`, for a thread."""
        forth, back = self._open(address)
        return LocalSocket(back, forth)

    def _open(self, address: str) -> tuple[Pipe, Pipe]:
        server = self._servers.get(address)
        forth, back = Pipe(), Pipe()
        if server is None or not server[0].put(_accept, server[1], forth, back):
            raise ConnectionRefusedError(f"nobody listens at {address}")
        return forth, back


def _accept(accept: Accept, forth: Pipe, back: Pipe) -> None:
    LocalTransport(accept(), forth, back).begin()


class LocalSocket:
    """A thread's end of a connection: what http.client and its like need of a socket."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._turns: SimpleQueue[None] = SimpleQueue()
        self._timeout_s: float | None = None
        self._files = 0
        self._closed = False
        incoming.wake = lambda: self._turns.put(None)
        self._turns.put(None)

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def sendall(self, data: Any) -> None:
        """Never blocks: what the other end does not take is kept."""
        if self._outgoing.closed:
            raise BrokenPipeError("the other end has closed the connection")
        self._outgoing.put(bytes(data))

    def recv(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end. TimeoutError after the timeout."""
        queue = self._incoming.queue
        while not queue:
            try:
                self._turns.get(timeout=self._timeout_s)
            except Empty:
                raise TimeoutError("timed out") from None
        data = queue.popleft()
        if data is None:
            queue.appendleft(None)
            return b""
        if len(data) > size:
            queue.appendleft(data[size:])
            data = data[:size]
        self._incoming.take(len(data))
        return data

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file to read from; the connection stays open until it is closed, too."""
        self._files += 1
        return io.BufferedReader(_File(self))

    def close(self) -> None:
        self._closed = True
        if not self._files:
            self._outgoing.put(None)
            self._incoming.close()

    def released(self) -> None:
        """A file was closed."""
        self._files -= 1
        if self._closed:
            self.close()


class _File(io.RawIOBase):
    def __init__(self, socket: LocalSocket) -> None:
        self._socket = socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._socket.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.released()
