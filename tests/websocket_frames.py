"""Client frames of WebSocket by hand, right and wrong ones: what no client library would send."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x11\x22\x33\x44"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """One frame; `length` announces another size than the payload has."""
    size = len(payload) if length is None else length
    head = bytes(((0x80 if fin else 0) | rsv << 4 | opcode,))
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes((bit | size,))
    elif size < 65536:
        head += bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((bit | 127,)) + size.to_bytes(8, "big")
    if masked:
        payload = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload)) if any(MASK) else payload
        head += MASK
    return head + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def deflated(data: bytes) -> bytes:
    """The payload of a compressed message (RFC 7692, 7.2.1)."""
    squeeze = zlib.compressobj(wbits=-12)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def opening(
    path: str = "/",
    *extra: str,
    key: str = "dGhlIHNhbXBsZSBub25jZQ==",
    version: str = "13",
    method: str = "GET",
) -> bytes:
    """A handshake; `extra` are whole header lines."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: t",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Version: {version}",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def server_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(first byte, payload) of each whole frame of a server."""
    position = 0
    while position + 2 <= len(data):
        first, size = data[position], data[position + 1]
        start = position + 2
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if start + size > len(data):
            return
        yield first, data[start : start + size]
        position = start + size
