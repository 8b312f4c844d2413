"""HTTP/1.1 requests out of bytes: httptools parses, this module limits, orders and refuses. No I/O, no clock.

The parser's callbacks only collect; whoever feeds bytes looks at `ready` afterwards, so that nothing of the
application ever runs inside the parser. Heads are fed in slices, so that limits are judged before memory is spent and a
client that pipelines is held back.

The only module that knows httptools. It must not know of transports, routes, replicas or the wire.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import httptools

from eagleray.http.limits import HttpLimits
from eagleray.http.request import (
    WATCHED,
    HttpRefused,
    Request,
    Target,
    asks_for_websocket,
    check_host,
    check_size,
    framing_of,
    is_framing_lookalike,
    read_method,
)
from eagleray.wire.messages import Headers

logger = logging.getLogger("eagleray.http")

_SLICE_BYTES = 8 * 1024
"""The parser gets heads in pieces of this size, so that limits and pipelining are judged in time."""

_MAX_READY = 32
"""Parsed requests that may wait for their turn on one connection."""

IDLE, HEAD, BODY = range(3)
"""What the parser is in the middle of."""

_INVALID = "Invalid HTTP request received."
_TOO_LARGE = "Request body is too large."


class ReaderOwner(Protocol):
    """Who is told while bytes are fed."""

    def on_partial_body(self) -> None:
        """Bytes were fed and the body is not complete; `parts` has what is new."""

    def on_upload_end(self, request: Request) -> None:
        """The request that the owner has set as `upload` is complete; `parts` has the last of it."""

    def on_upload_refused(self, request: Request, error: HttpRefused) -> None:
        """That request will never be complete."""


class RequestReader:
    """The reading half of one connection.

    `ready` are requests (and at most one refusal, the last thing ever) in the order of arrival. `upload` is set by the
    owner when it has begun the message that is still being read; `parts` are then its further pieces.
    """

    def __init__(self, owner: ReaderOwner, limits: HttpLimits) -> None:
        self._owner = owner
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self.ready: deque[Request | HttpRefused] = deque()
        self.rest = b""
        self.broken = self.switching = False  # switching: `rest` is for whoever takes the connection over
        self.stage = IDLE
        self.served = 0
        self.upload: Request | None = None
        # the message that is being read
        self.next: Request | None = None
        self.parts: list[bytes] = []
        self.received = 0
        self.left = 0
        self.wants_continue = False
        self._url = self._host = b""
        self._target = Target()
        self._headers: Headers = []
        self._known: dict[bytes, bytes] = {}
        self._fed = 0
        self._muted = False
        # A head that came in one slice can break the size limit only if that is set lower than a slice.
        self._most_unchecked = limits.max_headers if limits.max_header_bytes >= _SLICE_BYTES else -1

    def feed(self, data: bytes) -> None:
        """Takes what the client sent; afterwards look at `ready`. What it cannot take yet it keeps in `rest`."""
        if self.broken:
            if self.switching:
                self.rest += data
            return
        if self.rest:
            self.rest += data
            return
        size = len(data)
        if size <= _SLICE_BYTES or (self.stage == BODY and self.left >= size):
            self._feed(data)
            return
        view = memoryview(data)
        position = 0
        while position < size and not self.broken:
            if len(self.ready) >= _MAX_READY:
                self.rest = bytes(view[position:])
                return
            step = max(_SLICE_BYTES, self.left) if self.stage == BODY else _SLICE_BYTES
            self._feed(view[position : position + step])
            position += step
        if self.switching:
            self.rest += view[position:]

    def feed_rest(self) -> None:
        """Goes on with what `feed` could not take."""
        data, self.rest = self.rest, b""
        self.feed(data)

    def take_parts(self) -> bytes:
        """The pieces of the body that have come since the last call."""
        parts = self.parts
        if not parts:
            return b""
        self.parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def refuse(self, error: HttpRefused) -> None:
        """Nothing that follows can be trusted: what came before is answered, then this, then the end."""
        if self.broken:
            return
        self.broken = True
        self.stage = IDLE
        self.parts = []
        self.rest = b""
        upload, self.upload = self.upload, None
        if upload is not None:
            self._owner.on_upload_refused(upload, error)
        else:
            self.ready.append(error)

    def forget(self) -> None:
        """The connection has gone."""
        self.broken, self.switching = True, False
        self.ready.clear()
        self.parts = []
        self.rest = b""
        self.upload = None

    # ---- one slice -------------------------------------------------------------------------------------------

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.next is not None and asks_for_websocket(self.next):
                self._stop_before(self.next, bytes(data[upgrade.args[0] :]))
            else:
                self._decline_upgrade(data, upgrade.args[0])
            return
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, HttpRefused):
                logger.error("a callback of the HTTP parser failed", exc_info=error)
                refused = HttpRefused(400, _INVALID)
            self.refuse(refused)
            return
        except httptools.HttpParserError:
            self.refuse(HttpRefused(400, _INVALID))
            return
        if self.stage == BODY:
            self._fed += len(data)
            # Chunk extensions and trailers are bytes that buy nothing; only their sum can be judged (CVE-2024-22019).
            if self._fed - self.received > self._limits.max_header_bytes + 16 * self.received:
                self.refuse(HttpRefused(400, _INVALID))
            else:
                self._owner.on_partial_body()
        elif self.stage == HEAD:
            self._fed += len(data)
            if self._fed > self._limits.max_header_bytes + _SLICE_BYTES:
                self.refuse(HttpRefused(431, "Request header fields are too large."))

    def _stop_before(self, request: Request, rest: bytes) -> None:
        """What follows is not HTTP, or, should the request be refused, cannot be trusted to be."""
        request.upgrade = True
        request.complete = request.keep_alive = False
        self.next = None
        self.stage = IDLE
        self.broken = self.switching = True
        self.rest = rest
        self.ready.append(request)

    def _decline_upgrade(self, data: bytes | memoryview, offset: int) -> None:
        """Goes on in HTTP/1.1 although the client would rather not (RFC 9110, 7.8: an upgrade may be ignored).

        The parser stops behind such a head and forgets the body, so a new one is told of its framing only.
        """
        self._parser = httptools.HttpRequestParser(self)
        self._muted = True
        self._parser.feed_data(framing_of(self.next))
        self._muted = False
        if len(data) > offset:
            self._feed(bytes(data[offset:]))
        elif self.stage == BODY:
            self._owner.on_partial_body()

    # ---- callbacks of httptools ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._muted:
            self.stage = HEAD
            self._url = b""
            self._headers = []
            self._known = {}
            self._fed = 0

    def on_url(self, url: bytes) -> None:
        if not self._muted:
            self._url = self._url + url if self._url else url
            if len(self._url) > self._limits.max_url_bytes:
                raise HttpRefused(414, "Request target is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage == BODY or self._muted:
            return  # a trailer: nobody may rely on one, so none is forwarded (RFC 9110, 6.5.1)
        name = name.lower()
        value = value.strip(b" \t")  # llhttp leaves what stands behind
        if b"_" in name:
            key = name.replace(b"_", b"-")
            if key == b"serve-multiplexed-model-id":
                self._known[key] = value
            elif is_framing_lookalike(name):
                raise HttpRefused(400, "Bad request: a header name imitates a framing header.")
            elif self._limits.drop_underscore_headers:
                return
        elif name in WATCHED:
            if name == b"host" and name in self._known:
                raise HttpRefused(400, "Bad request: more than one Host header.")
            self._known[name] = value
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._muted:
            return
        if self._fed or len(self._headers) > self._most_unchecked:
            check_size(self._url, self._headers, self._limits)
        parser, known = self._parser, self._known
        version = parser.get_http_version()
        host = known.get(b"host")
        if version == "1.1":
            if host is None:
                raise HttpRefused(400, "Bad request: no Host header.")
        elif version != "1.0":
            raise HttpRefused(505, "HTTP Version Not Supported")
        elif b"transfer-encoding" in known:
            raise HttpRefused(400, "Bad request: Transfer-Encoding needs HTTP/1.1.")
        if host and host != self._host:
            check_host(host)
            self._host = host
        method = read_method(parser.get_method())
        path, raw_path, query = self._target.split(self._url, host or b"")
        self.next = Request(
            method, path, raw_path, query, self._headers, version == "1.1", parser.should_keep_alive(), known
        )
        self.stage = BODY
        self.received = 0
        self.left = 0
        if b"content-length" in known or b"transfer-encoding" in known:
            self._expect_body(known)

    def _expect_body(self, known: dict[bytes, bytes]) -> None:
        limit = self._limits.max_request_body_bytes
        self.left = int(known.get(b"content-length", b"0"))
        if limit is not None and self.left > limit:
            raise HttpRefused(413, _TOO_LARGE)
        expect = known.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise HttpRefused(417, "Expectation Failed")
            self.wants_continue = self.next is not None and self.next.http11
        self._fed = 0

    def on_body(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.left:
            self.left -= len(chunk)
        limit = self._limits.max_request_body_bytes
        if limit is not None and self.received > limit:
            raise HttpRefused(413, _TOO_LARGE)
        self.parts.append(chunk)

    def on_message_complete(self) -> None:
        request = self.next
        if request is None or (not self._muted and self._parser.should_upgrade()):
            return  # its body, if any, comes after `_decline_upgrade`
        self.stage = IDLE
        self.next = None
        self.wants_continue = False
        self.served += 1
        if self.upload is request:
            self.upload = None
            request.complete = True
            self._owner.on_upload_end(request)
            return
        if self.parts:
            request.body = self.take_parts()
        self.ready.append(request)
