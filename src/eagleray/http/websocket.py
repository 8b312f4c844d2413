"""The server's end of one WebSocket without I/O: handshake, frames in, frames out (RFC 6455, RFC 7692).

Frames of strangers are parsed here, by the sans-IO half of the `websockets` library, and nothing leaves but whole
messages whose text is valid: nobody behind the proxy ever sees a frame. A client that breaks the protocol gets a close
frame that says how; its messages before that are delivered. What it can make us keep is one message of the permitted
size, compressed or not.

The only module that knows `websockets`, and the only reason to import it: the proxy does so with its first WebSocket.
"""

from __future__ import annotations

import logging
from typing import cast

from websockets.datastructures import Headers as FieldMap
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode, apply_mask  # type: ignore[attr-defined]
from websockets.http11 import Request as Opening
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from eagleray.http.limits import HttpLimits
from eagleray.http.request import Request
from eagleray.http.response import TEXT as PLAIN_TEXT
from eagleray.wire.messages import Headers
from eagleray.wire.websocket import (
    ABNORMAL,
    BINARY,
    INVALID_DATA,
    NO_STATUS,
    TEXT,
    TOO_BIG,
    cut_reason,
    pack_record,
)

logger = logging.getLogger("eagleray.http.websocket")

CLOSE_FRAME = 0x88
"""The first byte of one."""

_MAX_MESSAGE = (1 << 30) - 1024
"""The most that the wire takes in one message."""

_PLAIN = (0x81, 0x82)
"""First bytes of a text or binary frame that is a whole message and not compressed."""

_SMALL_FRAME = 16 * 1024
"""A plain frame up to this size is waited for and read at one go, by this module, in a third of the library's time. The
library gets larger ones and all others, frame by frame, so that nothing behind a wrong frame is looked at."""

_TURN_FRAMES = 256
_TURN_BYTES = 1024 * 1024
"""Frames, and bytes of messages, after which others have their turn: a client can put 40,000 frames into one read, or
1 MiB into 1 KiB that is compressed."""

_SQUEEZED = range(64, 256 * 1024)
"""Sizes of messages that are compressed when the client can take it: below there is nothing to gain, and beyond the
other connections of this loop would wait for the compressor (some 20 ms for each MiB)."""

_DEFLATE = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
)
"""Small windows: 64 KiB of memory for each connection instead of 300, for a few percent of compression."""

_VERSION: Headers = [(b"sec-websocket-version", b"13")]


class HandshakeRefused(Exception):
    """The request to open a WebSocket is answered with `status`, `headers` and `text`."""

    def __init__(self, status: int, text: str, headers: Headers) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers


class WebSocketProtocol:
    """Made by `open`. After each `feed` look at `records`, `ended` and `take_output()`, in this order.

    `records` are whole messages, packed for the replica; whoever takes them empties the list. `ended` is (code, reason)
    once no message will come any more: the client has closed (`clean`), or broken the protocol.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limit = limit = min(int(limits.websocket_max_message_bytes), _MAX_MESSAGE)
        self._protocol = ServerProtocol(
            state=OPEN,
            extensions=[_DEFLATE] if limits.websocket_compression else None,
            # The library judges compressed bytes too, and what cannot be compressed becomes a little longer by it.
            max_size=limit + limit // 8 + 64,
            logger=logger,
        )
        self._deflate: PerMessageDeflate | None = None
        # the frame that is being received
        self._tail = b""
        self._left = 0
        self._length = 0
        self._is_plain = False
        # the message that is being received
        self._in_fragments = False
        self._kind = 0
        self._message = bytearray()
        self._gathered = 0
        self.fields: Headers = []
        """What the answer to the handshake must say."""
        self.records: list[bytes] = []
        self.ended: tuple[int, str] | None = None
        self.clean = False

    @classmethod
    def open(cls, request: Request, limits: HttpLimits) -> WebSocketProtocol:
        """Judges the handshake, raises HandshakeRefused. The application may then still accept it or not."""
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.headers
            if name in (b"connection", b"upgrade", b"origin") or name.startswith(b"sec-websocket-")
        ]
        if dict(fields).get("sec-websocket-version", "13") != "13":
            raise HandshakeRefused(426, "This server speaks version 13 of WebSocket.", PLAIN_TEXT + _VERSION)
        self = cls(limits)
        answer = self._protocol.accept(Opening(request.raw_path.decode("latin-1"), FieldMap(fields)))
        if answer.status_code != 101:
            text = cast(bytes, answer.body or b"").decode().strip()
            raise HandshakeRefused(answer.status_code, text, PLAIN_TEXT)
        self.fields = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in answer.headers.raw_items()
            if name.lower() in ("sec-websocket-accept", "sec-websocket-extensions")
        ]
        for extension in self._protocol.extensions:
            self._deflate = cast(PerMessageDeflate, extension)
        return self

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self._protocol.state is OPEN

    # ---- in --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Takes what the client has sent; never raises. After the end all is dropped.

        What it returns it has not taken, because there is enough for one turn: feed it again, before anything else.
        """
        if self._tail:
            data, self._tail = self._tail + data, b""
        self._gathered = frames = 0
        size, position = len(data), 0
        while position < size and self.ended is None:
            if frames >= _TURN_FRAMES or self._gathered >= _TURN_BYTES:
                return data[position:]
            frames += 1
            if not self._left:
                end = self._measure(data, position)
                if not end:
                    self._tail = data[position:]
                    break
                if end <= size and self._is_plain:
                    start = end - self._length
                    self._on_message(
                        data[position] & 0x0F, apply_mask(data[start:end], data[start - 4 : start])
                    )
                    position = end
                    continue
                self._left = end - position
            position += self._pass_on(memoryview(data)[position : position + self._left])
        return b""

    def _measure(self, data: bytes, position: int) -> int:
        """Where the frame that begins here ends, 0 when that is not known yet or the frame is better waited for."""
        size = len(data)
        start = position + 6
        if size < position + 2:
            return 0
        length = data[position + 1] - 0x80
        if length < 0:
            self._is_plain = False  # not masked: the library will say so
            return size
        if length >= 126:
            start += 2 if length == 126 else 8
        if size < start:
            return 0
        if length >= 126:
            length = int.from_bytes(data[position + 2 : start - 4], "big")
        self._length = length
        self._is_plain = data[position] in _PLAIN and not self._in_fragments
        end = start + length
        return 0 if size < end and length <= _SMALL_FRAME and self._is_plain else end

    def _pass_on(self, piece: memoryview) -> int:
        """Gives a frame, or a piece of one, to the library; returns how many bytes that were."""
        protocol = self._protocol
        self._left -= len(piece)
        protocol.receive_data(piece)  # type: ignore[arg-type]  # it appends it to a bytearray
        for frame in protocol.events_received():
            self._on_frame(cast(Frame, frame))
        if protocol.parser_exc is not None and self.ended is None:
            close = protocol.close_sent
            self.ended = (int(close.code), close.reason) if close is not None else (ABNORMAL, "")
        return len(piece)

    def _on_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            kind = TEXT if opcode is Opcode.TEXT else BINARY
            if frame.fin:
                self._on_message(kind, frame.data)
            else:
                self._kind = kind
                self._in_fragments = True
                self._message += frame.data
        elif opcode is Opcode.CONT:
            # One buffer, not a list of parts: a message of a million fragments costs no more than another.
            self._message += frame.data
            if frame.fin:
                message, self._message = self._message, bytearray()
                self._in_fragments = False
                self._on_message(self._kind, message)
            elif len(self._message) > self._limit:
                self._refuse_size()
        elif opcode is Opcode.CLOSE:
            close = self._protocol.close_rcvd
            self.clean = True
            self.ended = (int(close.code), close.reason) if close is not None else (NO_STATUS, "")

    def _on_message(self, kind: int, data: bytes | bytearray | memoryview) -> None:
        if len(data) > self._limit:
            self._refuse_size()
            return
        if kind == TEXT:
            try:
                str(data, "utf-8")
            except UnicodeDecodeError as error:
                self.fail(INVALID_DATA, f"{error.reason} at position {error.start}")
                return
        self.records.append(pack_record(kind, data))  # type: ignore[arg-type]  # any buffer can be appended
        self._gathered += len(data)

    def _refuse_size(self) -> None:
        self.fail(TOO_BIG, f"a message has more than {self._limit} bytes")

    # ---- out -------------------------------------------------------------------------------------------------

    def encode(self, kind: int, payload: bytes) -> tuple[bytes, bytes | memoryview]:
        """A message of ours as one frame: (header, payload). To be sent only while `is_open`."""
        first = 0x80 | kind
        data: bytes | memoryview = payload
        deflate = self._deflate
        if deflate is not None and len(payload) in _SQUEEZED:
            first |= 0x40
            data = cast(bytes, deflate.encode(Frame(Opcode(kind), payload)).data)
        size = len(data)
        if size < 126:
            return bytes((first, size)), data
        if size < 65536:
            return bytes((first, 126)) + size.to_bytes(2, "big"), data
        return bytes((first, 127)) + size.to_bytes(8, "big"), data

    def ping(self) -> None:
        """Asks the client for a sign of life; whatever it sends then is one."""
        if self.is_open:
            self._protocol.send_ping(b"alive?")

    def close(self, code: int, reason: str) -> None:
        """Begins to close, unless that has begun."""
        if self.is_open:
            self._protocol.send_close(code, cut_reason(reason))

    def fail(self, code: int, reason: str) -> None:
        """Ends the connection without waiting for the client's close frame; nothing that comes is looked at."""
        if self.ended is None:
            self.ended = (code, cut_reason(reason))
            self._protocol.fail(code, self.ended[1])

    def take_output(self) -> list[bytes]:
        """Control frames to send: pongs, pings and the close frame."""
        return [data for data in self._protocol.data_to_send() if data]
