"""Frames between node and the controller: a 4-byte little-endian length, then msgpack of a command or an event.

The frames are sans-IO, because node's end (`Channel`) lives in a bare selector loop and the other in asyncio.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.wire.control import NodeCommand, NodeEvent

MAX_FRAME_BYTES = 1 << 30
"""A replica's launch carries the user's pickled code and arguments, so it may be large; more than this is a fault."""

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: NodeCommand | NodeEvent) -> bytes:
    """Raises ProtocolError when the message is larger than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"A node frame of {len(body)} bytes exceeds the limit of {MAX_FRAME_BYTES} bytes."
        )
    return len(body).to_bytes(4, "little") + body


class FrameReader:
    """Collects bytes and yields the bodies of complete frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises ProtocolError when a length is over the limit; the stream is of no use afterwards."""
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "little")
            if size > MAX_FRAME_BYTES:
                raise ProtocolError(f"A node frame claims {size} bytes; the limit is {MAX_FRAME_BYTES}.")
            if len(self._buffer) < 4 + size:
                return
            frame = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            yield frame


class Channel:
    """Node's end of the socketpair. `on_lost` is called once when the other end is closed or breaks the framing."""

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.sock = sock
        self._selector = selector
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._closed = False
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self._on_ready)

    def send(self, event: NodeEvent) -> None:
        """Never blocks: what the controller does not read yet waits here, a few bytes per child."""
        if not self._closed:
            self._unsent += encode_frame(event)
            self._write()

    def close(self) -> None:
        """Idempotent; does not call `on_lost`."""
        if not self._closed:
            self._closed = True
            self._selector.unregister(self.sock)
            self.sock.close()

    def _on_ready(self) -> None:
        if self._unsent:
            self._write()
        try:
            data = self.sock.recv(1 << 18) if not self._closed else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("end of file")
            return
        try:
            for frame in self._reader.feed(data):
                self._on_frame(frame)
        except ProtocolError as error:
            self._lose(str(error))

    def _write(self) -> None:
        try:
            while self._unsent:
                sent = self.sock.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:  # the reader will report the same end
            self._unsent.clear()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self.sock, wanted, self._on_ready)

    def _lose(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self._on_lost(reason)
