"""The way in for large bodies: bytes go from the socket into their destination, with no copy in between.

A connection reads as `asyncio.Protocol` does, which is best for small frames, and puts a `BulkReader` in its place
while a body is under way whose destination is known. Between two frames of such a body only a little is read at once,
so that the next one's body is not read along with its header.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray.rpc.connection import Connection

_BETWEEN = 4096
"""Bytes that are read at once between two bodies: room for a burst of small frames, and quickly copied."""


class BulkReader(asyncio.BufferedProtocol):
    """The protocol of a transport while its connection receives a large body; all but reading is the connection's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._between = memoryview(bytearray(_BETWEEN))

    def get_buffer(self, sizehint: int) -> memoryview:
        rest = self._connection.session.decoder.rest
        return self._between if rest is None else rest

    def buffer_updated(self, nbytes: int) -> None:
        connection = self._connection
        decoder = connection.session.decoder
        if decoder.rest is not None:
            connection.take(decoder.filled, nbytes)
        else:
            connection.take(decoder.feed, bytes(self._between[:nbytes]))
            if decoder.rest is None:
                connection.read_small()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
