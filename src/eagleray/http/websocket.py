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
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request as Opening
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from eagleray.http.limits import HttpLimits
from eagleray.http.request import Request
from eagleray.http.response import TEXT as PLAIN_TEXT
from eagleray.wire.messages import Headers
from eagleray.wire.websocket import (
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
    """Made by `open`. After each `feed` look at `records`, `ended` and `take_output()`.

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
        self._closing = False
        self._instead = b""
        self._kind = 0
        self._message = bytearray()
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
    def inflates(self) -> bool:
        """Whether a few received bytes may become many: feed small pieces."""
        return self._deflate is not None

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self._protocol.state is OPEN

    # ---- in --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes | memoryview) -> None:
        """Takes what the client has sent; never raises. After the end it is dropped."""
        protocol = self._protocol
        if self.ended is not None:
            return
        protocol.receive_data(data)  # type: ignore[arg-type]  # it appends it to a bytearray
        for frame in protocol.events_received():
            if self.ended is not None:
                return
            self._on_frame(cast(Frame, frame))
        if protocol.parser_exc is not None and self.ended is None:
            close = protocol.close_sent
            self.ended = (int(close.code), close.reason) if close is not None else (1006, "")

    def _on_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            kind = TEXT if opcode is Opcode.TEXT else BINARY
            if frame.fin:
                self._on_message(kind, frame.data)
            else:
                self._kind = kind
                self._message += frame.data
        elif opcode is Opcode.CONT:
            # One buffer, not a list of parts: a message of a million fragments costs no more than another.
            self._message += frame.data
            if frame.fin:
                message, self._message = self._message, bytearray()
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
            self._closing = True
            self._protocol.send_close(code, cut_reason(reason))

    def fail(self, code: int, reason: str) -> None:
        """Ends the connection without waiting for the client's close frame; nothing that comes is looked at."""
        if self.ended is not None:
            return
        self.ended = (code, cut_reason(reason))
        if self.is_open:
            self._protocol.fail(code, self.ended[1])
        elif not self._closing:
            # The library has parsed on and closed for something that came behind.
            self._instead = Frame(Opcode.CLOSE, Close(*self.ended).serialize()).serialize(mask=False)

    def take_output(self) -> list[bytes]:
        """Control frames to send: pongs, pings and the close frame."""
        output = [data for data in self._protocol.data_to_send() if data]
        if self._instead:
            output = [frame for frame in output if frame[0] != CLOSE_FRAME]
            output.append(self._instead)
            self._instead = b""
        return output
