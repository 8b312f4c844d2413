"""The local engine: the controller's end of the channel to node.

Node does the work; this class sends commands and matches events to them. Ends of children are kept until the consumer
asks, so none is lost while the controller is still starting.
"""

from __future__ import annotations

import asyncio
import collections
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.engine.base import Capacity, EngineError
from eagleray.engine.channel import FrameReader, encode_frame
from eagleray.engine.spawn import NodeProcess, node_config, spawn_node
from eagleray.rpc.unix import connect_over
from eagleray.wire.control import (
    Children,
    CloseListeners,
    Exited,
    Leaving,
    ListChildren,
    NodeCommand,
    NodeConfig,
    NodeEvent,
    StartChild,
    Started,
    StartFailed,
    StopChild,
    StopNode,
    Suspended,
)

__all__ = ["LocalEngine", "NodeProcess", "local_capacity", "node_config", "spawn_node"]

_EVENTS: msgspec.msgpack.Decoder[NodeEvent] = msgspec.msgpack.Decoder(NodeEvent)


class LocalEngine(asyncio.Protocol):
    """An `Engine` on node's socketpair; made by `attach`, on whose loop it lives."""

    def __init__(self, capacity: Capacity) -> None:
        self.on_suspended: Callable[[str, bool], None] = _ignore
        self.on_leaving: Callable[[], None] = _ignore
        self._capacity = capacity
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._starting: dict[str, asyncio.Future[Started]] = {}
        self._listing: collections.deque[asyncio.Future[list[Started]]] = collections.deque()
        self._exits: asyncio.Queue[Exited | None] = asyncio.Queue()
        self._ended = asyncio.get_running_loop().create_future()

    @classmethod
    async def attach(cls, node_fd: int, config: NodeConfig) -> LocalEngine:
        """Takes over `node_fd` (`Child.node_fd`)."""
        capacity = local_capacity(config)
        sock = socket.socket(fileno=node_fd)
        sock.setblocking(False)
        return await connect_over(sock, lambda: cls(capacity))

    # ---- Engine ------------------------------------------------------------------------------------------------

    async def start(self, request: StartChild) -> Started:
        if request.ref in self._starting:
            raise EngineError("exists", f"A child '{request.ref}' is already being started.")
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._send(request)
        self._starting[request.ref] = started
        try:
            return await started
        finally:
            if self._starting.get(request.ref) is started:
                del self._starting[request.ref]

    async def stop(self, ref: str, signum: int = signal.SIGTERM) -> None:
        self._send(StopChild(ref=ref, signal=int(signum)))

    async def children(self) -> list[Started]:
        listed: asyncio.Future[list[Started]] = asyncio.get_running_loop().create_future()
        self._send(ListChildren())
        self._listing.append(listed)
        return await listed

    async def close_listeners(self) -> None:
        self._send(CloseListeners())
        await self.children()  # node obeys in order, so that its answer says that it has been done

    async def exits(self) -> AsyncIterator[Exited]:
        while (exited := await self._exits.get()) is not None:
            yield exited
        self._exits.put_nowait(None)

    def capacity(self) -> Capacity:
        return self._capacity

    async def shutdown(self) -> None:
        self._send(StopNode())

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            await self._ended

    # ---- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._on_event(_EVENTS.decode(frame))
        except (ProtocolError, msgspec.MsgspecError):  # node speaks nonsense: to us it is dead
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        gone = EngineError("closed", "The connection to node is closed.")
        waiting: list[asyncio.Future[Any]] = [*self._starting.values(), *self._listing]
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
        self._listing.clear()
        self._exits.put_nowait(None)
        self._ended.set_result(None)

    # ---- channel -------------------------------------------------------------------------------------------------

    def _send(self, command: NodeCommand) -> None:
        if self._transport is None or self._transport.is_closing():
            raise EngineError("closed", "The connection to node is closed.")
        try:
            frame = encode_frame(command)
        except ProtocolError as error:
            raise EngineError("internal", str(error)) from error
        self._transport.write(frame)

    def _on_event(self, event: NodeEvent) -> None:
        match event:
            case Started():
                starting = self._starting.get(event.ref)
                if starting is not None and not starting.done():
                    starting.set_result(event)
            case StartFailed():
                starting = self._starting.get(event.ref)
                if starting is not None and not starting.done():
                    starting.set_exception(EngineError(event.code, event.reason))
            case Exited():
                self._exits.put_nowait(event)
            case Suspended(ref=ref, stopped=stopped):
                self.on_suspended(ref, stopped)
            case Leaving():
                self.on_leaving()
            case Children():
                listed = self._listing.popleft()
                if not listed.done():
                    listed.set_result(event.children)


def _ignore(*what: object) -> None:
    """Nobody wants to know."""


def local_capacity(config: NodeConfig) -> Capacity:
    """What this machine has, with what `config` says in place of what is found."""
    return Capacity(
        num_cpus=float(len(os.sched_getaffinity(0))),
        memory_bytes=config.memory_bytes if config.memory_bytes is not None else _memory_bytes(),
        gpu_ids=_gpu_ids(config.num_gpus),
        resources=dict(config.resources),
    )


def _gpu_ids(num_gpus: int | None) -> tuple[str, ...]:
    """Ids that this process may give away: those that CUDA_VISIBLE_DEVICES leaves it, else all NVIDIA devices."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    else:
        devices = (re.fullmatch(r"nvidia(\d+)", name) for name in os.listdir("/dev"))
        found = tuple(sorted((device[1] for device in devices if device), key=int))
    if num_gpus is None:
        return found
    return found[:num_gpus] if len(found) >= num_gpus else tuple(map(str, range(num_gpus)))


def _memory_bytes() -> int:
    """Physical memory, or the limit of our cgroup when that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
