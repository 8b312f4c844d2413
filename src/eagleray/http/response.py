"""Response heads as bytes: status line, our own fields, the application's fields, and how the body is framed.

The application decides status and fields, we decide framing: whatever it says about `connection` or
`transfer-encoding` stays on its own hop. A head that could split the response (CR, LF or NUL in a field) is refused.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from eagleray.wire.messages import Headers

_STATUS_LINE = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status >= 200
}

_OURS = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
"""Fields that are hop-by-hop, or that are replaced rather than doubled."""

_HANDSHAKE = frozenset(
    {b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-version"}
)
"""Fields of a WebSocket handshake that are not the application's to say."""

_YIELDING = (b"server", b"date")
"""Of these, ours is left out when the application has its own."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TEXT: Headers = [(b"content-type", b"text/plain; charset=utf-8")]


class BadResponseError(ValueError):
    """The application's status or headers cannot be sent."""


Framing = tuple[bytes, int, bool, bool]
"""A head and how the body behind it is delimited: (head, content-length or -1, is chunked, connection closes)."""


def common_fields(now_s: float) -> bytes:
    """The fields of every response, for one second of wall time."""
    return b"server: eagleray\r\ndate: %b\r\n" % formatdate(now_s, usegmt=True).encode()


def encode_head(
    status: int,
    headers: Headers,
    *,
    common: bytes,
    request_id: bytes,
    method: str,
    http11: bool,
    keep_alive: bool,
    body_length: int,
) -> Framing:
    """The head of a final response. `body_length` is that of the whole body, -1 when the body is yet to come.

    Raises BadResponseError for a status outside 200-599, fields that would break the head, or a `content-length`
    that contradicts the body.
    """
    if http11 and keep_alive and body_length > 0 and len(headers) == 1 and method != "HEAD":
        short = _short_head(status, headers[0], common, request_id, body_length)
        if short:
            return short, body_length, False, False
    parts = [_STATUS_LINE.get(status) or _unnamed(status), common]
    add = parts.append
    lines, declared = 3, -1
    for name, value in headers:
        lowered = name.lower()
        if lowered in _OURS:
            if lowered == b"content-length":
                declared = _length(value, declared)
                continue
            if lowered not in _YIELDING:
                keep_alive = keep_alive and not (lowered == b"connection" and b"close" in value.lower())
                continue
            parts[1] = _without(parts[1], lowered)
            lines -= 1
        add(b"%b: %b\r\n" % (name, value))
        lines += 1
    if request_id:
        add(b"x-request-id: %b\r\n" % request_id)
        lines += 1
    length, chunked = _frame(status, method, http11, body_length, declared)
    if length >= 0:
        add(b"content-length: %d\r\n" % length)
        lines += 1
    elif chunked:
        add(b"transfer-encoding: chunked\r\n")
        lines += 1
    elif not _is_bodiless(status, method):
        keep_alive = False
    if not keep_alive:
        add(b"connection: close\r\n")
        lines += 1
    elif not http11:
        add(b"connection: keep-alive\r\n")
        lines += 1
    add(b"\r\n")
    head = b"".join(parts)
    # One scan for the whole head instead of one for each field: exactly our own line ends may be in it.
    if head.count(b"\n") != lines + 1 or head.count(b"\r") != lines + 1 or b"\0" in head:
        raise BadResponseError("a header contains CR, LF or NUL")
    return head, length, chunked, not keep_alive


_PLAIN = bytes(range(33, 127))
"""What request ids are made of, as a rule."""
_MOST_STARTS = 256
_starts: dict[tuple[int, tuple[bytes, bytes], bytes], bytes] = {}
"""How heads begin that have been sent this second: most answers of an application begin alike."""


def _short_head(
    status: int, field: tuple[bytes, bytes], common: bytes, request_id: bytes, body_length: int
) -> bytes:
    """The head of a whole response with one field, as `encode_head` makes it; empty when there is more to look at."""
    start = _starts.get((status, field, common))
    if start is None:
        start = _start_of(status, field, common)
    if not start or not request_id or request_id.translate(None, _PLAIN):
        return b""
    return b"%b%b\r\ncontent-length: %d\r\n\r\n" % (start, request_id, body_length)


def _start_of(status: int, field: tuple[bytes, bytes], common: bytes) -> bytes:
    name, value = field
    start = b"%b%b%b: %b\r\nx-request-id: " % (_STATUS_LINE.get(status, b""), common, name, value)
    text = name + value
    breaks = b"\n" in text or b"\r" in text or b"\0" in text
    if breaks or status in (204, 304) or status not in _STATUS_LINE or name.lower() in _OURS:
        return b""
    if len(_starts) >= _MOST_STARTS:
        _starts.clear()
    _starts[status, field, common] = start
    return start


def encode_switch(headers: Headers, fields: Headers, *, common: bytes, request_id: bytes) -> bytes:
    """The head of a 101 to WebSocket: `fields` are the handshake's own, `headers` the application's.

    Raises BadResponseError for headers that would break the head; those that belong to the handshake are left out.
    """
    parts = [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n", common]
    parts += [b"%b: %b\r\n" % field for field in fields]
    for name, value in headers:
        lowered = name.lower()
        if lowered in _YIELDING:
            parts[1] = _without(parts[1], lowered)
        elif lowered in _OURS or lowered in _HANDSHAKE:
            continue
        if b"\r" in name + value or b"\n" in name + value or b"\0" in name + value:
            raise BadResponseError("a header contains CR, LF or NUL")
        parts.append(b"%b: %b\r\n" % (name, value))
    if request_id:
        parts.append(b"x-request-id: %b\r\n" % request_id)
    parts.append(b"\r\n")
    return b"".join(parts)


def _is_bodiless(status: int, method: str) -> bool:
    return method == "HEAD" or status == 204 or status == 304


def _frame(status: int, method: str, http11: bool, body_length: int, declared: int) -> tuple[int, bool]:
    """`content-length` to send (-1: none) and whether the body goes in chunks."""
    if status == 204:
        return -1, False
    if method == "HEAD" or status == 304:
        # What a GET would have said, where the application knows it (RFC 9110, 8.6).
        if declared >= 0:
            return declared, False
        return (body_length if body_length > 0 or (method != "HEAD" and status != 304) else -1), False
    if body_length >= 0:
        if 0 <= declared != body_length:
            raise BadResponseError(f"content-length is {declared}, but the body has {body_length} bytes")
        return body_length, False
    if declared >= 0:
        return declared, False
    return -1, http11


def _length(value: bytes, previous: int) -> int:
    if not value.isdigit() or len(value) > 18 or (previous >= 0 and int(value) != previous):
        raise BadResponseError("content-length is not one number")
    return int(value)


def _without(common: bytes, name: bytes) -> bytes:
    """Our own field gives way to the application's."""
    start = common.find(name + b": ")
    if start < 0:
        raise BadResponseError(f"two fields named {name.decode()}")
    end = common.index(b"\n", start) + 1
    return common[:start] + common[end:]


def _unnamed(status: int) -> bytes:
    if not 200 <= status <= 999:
        raise BadResponseError(f"status {status} is not a final HTTP status")
    return b"HTTP/1.1 %d \r\n" % status
