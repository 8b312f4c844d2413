"""Memory that large values travel in between processes of one machine: memory files, kept mapped and used again.

A new mapping for each message would cost a page fault for every 4 KiB of it, which is slower than the socket. So the
sender keeps a bounded pool of memory files (memfd: they have no name that could be left behind) and copies each large
value into a free one; the receiver opens each file once, through /proc, and sees later values without any system call.
Who may look at what, and for how long, is decided in `wire.leases` and `wire.segments`; here are memory and threads.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from eagleray.base.settings import Settings
from eagleray.wire.leases import Leases, Open
from eagleray.wire.parts import Memory
from eagleray.wire.segments import Block, Segment, SegmentPool

logger = logging.getLogger("eagleray.rpc")

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""The size is for ever: a reader can never meet the SIGBUS of pages that were cut off."""
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_ssize_t,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _Byte(ctypes.Union):
    """One byte. An array of unions exports the buffer format `B`, one of c_ubyte the unusable `<B`."""

    _fields_ = (("value", ctypes.c_ubyte),)


@lru_cache(maxsize=64)
def _lease_type(size: int) -> Any:
    """The type of objects that are `size` bytes of a mapping, keep it, and tell of their own end.

    The end of a lease is the end of the object whose buffer the views share. Before Python 3.12 (PEP 688) only ctypes
    lets Python code be such an object.
    """

    class Lease(_Byte * size):  # type: ignore[misc]
        mapping: Mapping
        number: int
        ended: Callable[[int], None]

        @property
        def view(self) -> memoryview:
            return memoryview(self)

        def __del__(self) -> None:
            self.ended(self.number)

    return Lease


class Mapping:
    """All of a memory file in this process's address space, as long as anything refers to it.

    Not by the `mmap` module, whose objects keep a descriptor each. Readers map it writable too: native code that
    ignores the read-only flag of an array (`torch.from_numpy`, say) then spoils its own message, which nobody else
    looks at, instead of the process.
    """

    def __init__(self, fd: int, size: int) -> None:
        address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot map {size} bytes: {os.strerror(number)}")
        self.size = size
        self._address = address

    def lease(self, number: int, ended: Callable[[int], None]) -> Memory:
        """See `wire.leases.Mapping`."""
        lease = _lease_type(self.size).from_address(self._address)
        lease.mapping = self
        lease.number = number
        lease.ended = ended
        memory: Memory = lease
        return memory

    def __del__(self) -> None:
        address = getattr(self, "_address", None)
        if address is not None:
            _libc.munmap(address, self.size)


class MemoryFile:
    """A memory file of our own; `close` gives it up, but it lives on where it is still mapped. Raises OSError."""

    def __init__(self, size: int) -> None:
        self.fd = -1
        self.fd = os.memfd_create("eagleray", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self.view = Mapping(self.fd, size).lease(0, _nothing).view

    def offer(self, segment: Segment) -> Open:
        """Where a peer finds it."""
        found = os.fstat(self.fd)
        return Open(segment.id, os.getpid(), self.fd, found.st_dev, found.st_ino, found.st_size)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        self.view = memoryview(b"")

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _nothing(number: int) -> None:
    """Nobody waits for the end of our own view."""


def open_peers(offer: Open) -> Mapping | None:
    """Maps a peer's memory file; None when it cannot be reached from here, or is not what it should be.

    /proc/PID/fd asks of us what unpickling for that peer has asked before: to be of the same user. A descriptor that
    means something else by now is not even opened.
    """
    path = f"/proc/{offer.pid}/fd/{offer.fd}"
    expected = (offer.device, offer.inode, offer.size)
    try:
        if _identity(os.stat(path)) != expected:
            return None
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _identity(os.fstat(fd)) != expected or fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                return None
            return Mapping(fd, offer.size)
        finally:
            os.close(fd)
    except OSError as error:
        logger.warning(
            "Large values of process %d come through the socket, which is slower: its shared memory cannot be opened "
            "(%s).",
            offer.pid,
            error,
        )
        return None


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_size


class SharedMemory:
    """The pool of this process, for all its connections. `take` may be called from any thread, the rest on `loop`.

    `limit_bytes` bounds what it holds at once; values for which there is no room go through the socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int, idle_s: float) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._pid = os.getpid()
        # Reentrant, because the garbage collector may run user code in here, and that may make a call.
        self._lock = threading.RLock()
        self._pool = SegmentPool(limit_bytes, MemoryFile, self._on_closed)
        self._connections: dict[Leases, Callable[[Callable[[], None]], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping = False
        self._closed = False

    @classmethod
    def for_loop(cls, loop: asyncio.AbstractEventLoop) -> SharedMemory | None:
        """As the settings say; None when they say so, or the system has no memory files."""
        settings = Settings.from_env()
        if settings.shared_memory_mb <= 0 or not hasattr(os, "memfd_create"):
            return None
        return cls(loop, settings.shared_memory_mb << 20, max(1, settings.shared_memory_idle_s))

    def take(self, size: int) -> Block | None:
        """Memory for a message of `size` bytes; None: send it through the socket."""
        if os.getpid() != self._pid or self._closed:
            return None  # a fork sees this memory, but not what we do with it
        with self._lock:
            block = self._pool.take(size, time.monotonic())
        if block is not None and not self._sweeping:
            self._sweeping = True
            try:
                self._loop.call_soon_threadsafe(self._rest)
            except RuntimeError:
                pass  # the loop has ended, and the memory with it
        return block

    @property
    def segments(self) -> int:
        """How many there are, free or not."""
        return len(self._pool.segments)

    @property
    def leased(self) -> int:
        """How many are in use."""
        return self._pool.leased

    def leases(self, emit: Callable[[bytes], None], post: Callable[[Callable[[], None]], None]) -> Leases:
        """The leases of a new connection; `close` them with it."""
        leases = Leases(emit, post, open_peers, self.take, _offer, self._detach)
        with self._lock:
            self._connections[leases] = post
        return leases

    def _detach(self, leases: Leases) -> None:
        with self._lock:
            self._connections.pop(leases, None)

    def _on_closed(self, segment: Segment) -> None:
        """With the lock held, in any thread."""
        for leases, post in self._connections.items():
            post(partial(leases.forget, segment))

    # ---- idle segments ---------------------------------------------------------------------------------------

    def _rest(self) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(self._idle_s, self._sweep)

    def _sweep(self) -> None:
        with self._lock:
            self._sweeping = self._pool.expire(time.monotonic(), self._idle_s)
        if self._sweeping:
            self._rest()

    def close(self) -> None:
        """Gives up everything; after the connections have been closed. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._pool.expire(time.monotonic(), 0.0)


def _offer(segment: Segment) -> Open:
    file = segment.store
    assert isinstance(file, MemoryFile)
    return file.offer(segment)
