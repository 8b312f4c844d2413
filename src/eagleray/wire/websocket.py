"""What travels between proxy and replica for a WebSocket: whole messages and its end, as records in DATA messages.

    u8 kind | u32 payload length (little-endian) | payload

A DATA message carries one record or more: what a client sends in one burst is one frame of the wire, and many tiny
messages cost the receiver's memory no more than credit has allowed. A CLOSE is the last record of its direction. Its
payload is that of a close frame (RFC 6455, 5.5.1), but may have the codes 1005 and 1006, which tell that none came.
"""

from __future__ import annotations

import struct

TEXT, BINARY, CLOSE = 1, 2, 8
"""Kinds of records: the opcodes of RFC 6455. The payload of TEXT is valid UTF-8."""

RECORD = struct.Struct("<BI")
RECORD_SIZE = RECORD.size

MAX_REASON_BYTES = 123
"""Of a close reason: a control frame has at most 125 bytes, two are the code."""

OK, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, ABNORMAL = 1000, 1001, 1002, 1005, 1006
INVALID_DATA, TOO_BIG, INTERNAL_ERROR, SERVICE_RESTART = 1007, 1009, 1011, 1012
TIMEOUT = 3008
"""Close codes that we use; 3008 is IANA's `Timeout`, the counterpart of HTTP's 408."""

_NEVER_SENT = (1004, NO_STATUS, ABNORMAL, 1015)


def pack_record(kind: int, payload: bytes) -> bytes:
    """One record."""
    return RECORD.pack(kind, len(payload)) + payload


def pack_close(code: int, reason: str = "") -> bytes:
    """A CLOSE record; a reason that does not fit into a close frame is cut at a character's end."""
    return pack_record(CLOSE, code.to_bytes(2, "big") + cut_reason(reason).encode())


def unpack_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a CLOSE record's payload."""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def cut_reason(reason: str) -> str:
    """As much of `reason` as a close frame takes; what UTF-8 cannot say is replaced."""
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def may_be_sent(code: int) -> bool:
    """Whether a close frame may have this code (RFC 6455, 7.4, and IANA's registry)."""
    return 3000 <= code < 5000 or (1000 <= code < 1015 and code not in _NEVER_SENT)
