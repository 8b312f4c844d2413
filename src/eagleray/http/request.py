"""One HTTP request as the parser leaves it, and the checks that the parser does not make.

httptools is strict about framing, but it accepts no or two Hosts, Transfer-Encoding on HTTP/1.0, names with `_`, a
target whose host contradicts Host, and other protocols' versions (reference: RFC 9112 sections 3.2 and 6). What fails
here is refused before anything is dispatched; nothing is repaired.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from eagleray.http.limits import HttpLimits
from eagleray.wire.messages import Headers

WATCHED = frozenset(
    {
        b"content-length",
        b"expect",
        b"host",
        b"traceparent",
        b"transfer-encoding",
        b"upgrade",
        b"x-eagleray-timing",
        b"x-request-disconnect-disabled",
        b"x-request-id",
        b"x-request-timeout-seconds",
        b"x-session-id",
        b"serve-multiplexed-model-id",
    }
)
"""Names (with `-` for `_`) that mean something to us; they are collected in `Request.known`."""

_HOST_BYTES = bytes(
    sorted({*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+;=:[]%"})
)
_FOREIGN_METHODS = frozenset(
    b"ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY PRI RECORD REDIRECT SETUP SET_PARAMETER SOURCE TEARDOWN".split()
)
"""Of RTSP, ICE and HTTP/2, which httptools parses as well."""
_METHODS = {
    name: name.decode()
    for name in b"GET POST PUT PATCH DELETE HEAD OPTIONS TRACE PURGE PROPFIND REPORT SEARCH QUERY".split()
}


class HttpRefused(Exception):
    """The request is answered with `status` and `text`, and its connection is closed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class Request(msgspec.Struct, gc=False):
    """A request whose head is complete. `body` is all of it when `complete`, else the beginning.

    `upgrade`: it asks for a WebSocket; nothing that follows is HTTP unless this is refused and the connection closed.
    """

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Headers
    http11: bool
    keep_alive: bool
    known: dict[bytes, bytes]
    body: bytes = b""
    complete: bool = True
    upgrade: bool = False


def read_method(name: bytes) -> str:
    """All methods that httptools knows are forwarded, but no tunnel is opened and no other protocol is spoken."""
    method = _METHODS.get(name)
    if method is None:
        if name == b"CONNECT":
            raise HttpRefused(405, "Method Not Allowed")
        if name in _FOREIGN_METHODS:
            raise HttpRefused(400, "Invalid HTTP request received.")
        method = name.decode("ascii")
    return method


def split_target(url: bytes, host: bytes) -> tuple[str, bytes, bytes]:
    """(path as text, raw path, query string) of a request target in origin, absolute or asterisk form."""
    raw_path, _, query = url.partition(b"?")
    if not raw_path.startswith(b"/") and raw_path != b"*":
        raw_path = _path_of_absolute(raw_path, host)
    if b"#" in url:
        raise HttpRefused(400, "Bad request: the target has a fragment.")
    try:
        path = raw_path.decode("ascii")
    except UnicodeDecodeError:
        raise HttpRefused(400, "Bad request: the target is not ASCII.") from None
    return (unquote(path) if "%" in path else path), raw_path, query


class Target:
    """The targets of one connection, which often asks for the same one again."""

    __slots__ = ("_parts", "_url")

    def __init__(self) -> None:
        self._url = b""
        self._parts = ("", b"", b"")

    def split(self, url: bytes, host: bytes) -> tuple[str, bytes, bytes]:
        """As `split_target`."""
        if url != self._url:
            self._parts = split_target(url, host)
            self._url = url if url.startswith(b"/") else b""  # else it depends on the host
        return self._parts


def _path_of_absolute(target: bytes, host: bytes) -> bytes:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise HttpRefused(400, "Bad request: the target is neither a path nor an http URI.")
    authority, slash, path = rest.partition(b"/")
    if not authority or b"@" in authority or (host and authority.lower() != host.lower()):
        raise HttpRefused(400, "Bad request: the target's host is not that of the Host header.")
    return slash + path or b"/"


def check_host(value: bytes) -> None:
    """Raises HttpRefused unless `value` has the form of a host with an optional port; empty is allowed (RFC 9112)."""
    if value.translate(None, _HOST_BYTES):
        raise HttpRefused(400, "Bad request: invalid Host header.")


def check_size(url: bytes, headers: Headers, limits: HttpLimits) -> None:
    """Raises HttpRefused for a head over the limits."""
    if len(headers) > limits.max_headers:
        raise HttpRefused(431, "Too many request header fields.")
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > limits.max_header_bytes:
        raise HttpRefused(431, "Request header fields are too large.")


def asks_for_websocket(request: Request) -> bool:
    """Whether an offer to upgrade is a WebSocket's. Others, and requests with a body, go on in HTTP/1.1."""
    known = request.known
    return (
        request.http11
        and request.method == "GET"
        and known.get(b"upgrade", b"").lower() == b"websocket"
        and b"transfer-encoding" not in known
        and known.get(b"content-length", b"0") == b"0"
    )


def framing_of(request: Request | None) -> bytes:
    """A head that tells a parser of the request's body and nothing else."""
    head = b"POST / HTTP/1.1\r\n"
    if request is not None:
        if b"content-length" in request.known:
            head += b"content-length: %b\r\n" % request.known[b"content-length"]
        elif b"transfer-encoding" in request.known:
            head += b"transfer-encoding: chunked\r\n"
        if not request.keep_alive:
            head += b"connection: close\r\n"
    return head + b"\r\n"


def is_framing_lookalike(name: bytes) -> bool:
    """`content_length` and its like: nobody sends these by accident."""
    return name.replace(b"_", b"-") in (b"content-length", b"transfer-encoding", b"host", b"connection")
