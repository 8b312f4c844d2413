"""The proxy's end of a WebSocket, sans I/O: handshakes, a table of wrong frames, limits, compression."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from tests.unit.http.reading import read
from tests.websocket_frames import (
    BINARY,
    CLOSE,
    CONT,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    close,
    deflated,
    frame,
    opening,
    server_frames,
)

from eagleray.http.limits import HttpLimits
from eagleray.http.request import Request
from eagleray.http.websocket import HandshakeRefused, WebSocketProtocol
from eagleray.wire.websocket import RECORD, RECORD_SIZE


def opened(*extra: str, **limits: float) -> WebSocketProtocol:
    request = read(opening("/", *extra))[0]
    assert isinstance(request, Request) and request.upgrade
    return WebSocketProtocol.open(request, HttpLimits(**limits))  # type: ignore[arg-type]


def feed(protocol: WebSocketProtocol, data: bytes) -> None:
    """Feeds until all is taken: after many frames it is the turn of others."""
    while data:
        data = protocol.feed(data)


def messages(protocol: WebSocketProtocol) -> list[tuple[int, bytes]]:
    found = []
    for record in protocol.records:
        kind, size = RECORD.unpack_from(record)
        assert len(record) == RECORD_SIZE + size
        found.append((kind, record[RECORD_SIZE:]))
    return found


def sent(protocol: WebSocketProtocol) -> list[tuple[int, bytes]]:
    return list(server_frames(b"".join(protocol.take_output())))


# ---- handshake -------------------------------------------------------------------------------------------------


def test_the_example_of_the_rfc() -> None:
    assert opened().fields == [(b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (opening(key="short"), 400),
        (opening(key="not base64 at all======="), 400),
        (opening(version="8"), 426),
        (opening("/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (opening("/", "Sec-WebSocket-Version: 13"), 400),
        (opening("/", "Origin: http://a", "Origin: http://b"), 400),
        (opening("/", "Sec-WebSocket-Extensions: ;;;"), 400),
        (opening("/", "Sec-WebSocket-Protocol: ,bad protocol{}"), 400),
        (opening().replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        (opening().replace(b"Sec-WebSocket-Version: 13\r\n", b""), 400),
    ],
)
def test_a_bad_handshake_is_refused(request_bytes: bytes, status: int) -> None:
    request = read(request_bytes)[0]
    assert isinstance(request, Request) and request.upgrade
    with pytest.raises(HandshakeRefused) as refused:
        WebSocketProtocol.open(request, HttpLimits())
    assert refused.value.status == status
    assert refused.value.text
    assert ((b"sec-websocket-version", b"13") in refused.value.headers) == (status == 426)


@pytest.mark.parametrize(
    "request_bytes",
    [
        opening(method="POST"),
        opening().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        opening().replace(b"HTTP/1.1", b"HTTP/1.0"),
        opening("/", "Content-Length: 3") + b"abc",
        opening("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        opening().replace(b"Connection: Upgrade", b"Connection: keep-alive"),
    ],
)
def test_other_upgrades_go_on_in_http(request_bytes: bytes) -> None:
    (request,) = read(request_bytes)
    assert isinstance(request, Request) and not request.upgrade


def test_what_follows_a_handshake_is_not_parsed_as_http() -> None:
    entries = read(opening() + b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n")
    assert [entry.path for entry in entries if isinstance(entry, Request)] == ["/"]


# ---- messages --------------------------------------------------------------------------------------------------


def test_messages_whole_and_in_fragments() -> None:
    protocol = opened()
    feed(
        protocol,
        frame(TEXT, "né".encode())
        + frame(BINARY, b"\x00\xff")
        + frame(TEXT, b"\xc3", fin=False)  # a character may be cut in two
        + frame(PING, b"between")
        + frame(CONT, b"", fin=False)
        + frame(CONT, b"\xa9")
        + frame(BINARY),
    )
    assert messages(protocol) == [(1, "né".encode()), (2, b"\x00\xff"), (1, "é".encode()), (2, b"")]
    assert sent(protocol) == [(0x80 | PONG, b"between")]
    assert protocol.is_open and protocol.ended is None


def test_the_largest_message_passes_and_one_more_byte_does_not() -> None:
    for pieces in ([b"x" * 1000], [b"x" * 400, b"x" * 600]):
        protocol = opened(websocket_max_message_bytes=1000)
        for number, piece in enumerate(pieces):
            feed(protocol, frame(BINARY if not number else CONT, piece, fin=number == len(pieces) - 1))
        assert messages(protocol) == [(2, b"x" * 1000)]
        protocol.records.clear()
        feed(protocol, frame(BINARY, b"x" * 400, fin=False) + frame(CONT, b"x" * 601))
        assert protocol.ended is not None and protocol.ended[0] == 1009
        assert not protocol.records


def test_a_frame_that_only_announces_too_much_is_refused_at_once() -> None:
    protocol = opened(websocket_max_message_bytes=1000)
    feed(protocol, frame(BINARY, b"", length=1 << 62)[:14])
    assert protocol.ended is not None and protocol.ended[0] == 1009


WRONG = {
    "not masked": (frame(TEXT, b"a", masked=False), 1002),
    "reserved bit 1": (frame(TEXT, b"a", rsv=4), 1002),
    "reserved bit 2": (frame(TEXT, b"a", rsv=2), 1002),
    "reserved bit 3": (frame(TEXT, b"a", rsv=1), 1002),
    "all reserved bits of a ping": (frame(PING, b"a", rsv=7), 1002),
    **{f"opcode {opcode}": (frame(opcode, b"a"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "fragmented close": (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    "continuation of nothing": (frame(CONT, b"a"), 1002),
    "continuation of nothing, not the last": (frame(CONT, b"a", fin=False), 1002),
    "text within a fragmented text": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "binary within a fragmented text": (frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), 1002),
    "continuation after the last": (frame(TEXT, b"a", fin=False) + frame(CONT) + frame(CONT), 1002),
    "text that is not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "text that ends within a character": (frame(TEXT, b"ab\xc3"), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "overlong": (frame(TEXT, b"\xc0\xaf"), 1007),
    "beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "not UTF-8 in fragments": (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"("), 1007),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "close reason not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "close within a fragmented message": (frame(TEXT, b"a", fin=False) + close(1000), 1002),
    **{
        f"close {code}": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "compressed without agreement": (frame(TEXT, deflated(b"a"), rsv=4), 1002),
}


@pytest.mark.parametrize(("data", "code"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("cut", [0, 1])
def test_a_wrong_frame_ends_the_connection_and_nothing_else(data: bytes, code: int, cut: int) -> None:
    protocol = opened()
    feed(protocol, frame(TEXT, b"before"))
    for piece in [data] if not cut else [data[i : i + 1] for i in range(len(data))]:
        feed(protocol, piece)
    feed(protocol, frame(TEXT, b"after"))
    assert messages(protocol)[0] == (1, b"before")
    assert (1, b"after") not in messages(protocol)
    assert protocol.ended is not None and protocol.ended[0] == code
    assert not protocol.clean and not protocol.is_open
    ((first, payload),) = sent(protocol)
    assert first == 0x88 and int.from_bytes(payload[:2], "big") == code
    assert len(payload) <= 125


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (frame(CLOSE), (1005, "")),
        (close(1000), (1000, "")),
        (close(4999, "né".encode()), (4999, "né")),
        (close(1001, b"x" * 123), (1001, "x" * 123)),
    ],
)
def test_a_client_that_closes_gets_its_close_frame_back(data: bytes, end: tuple[int, str]) -> None:
    protocol = opened()
    feed(protocol, data + frame(TEXT, b"after"))
    assert protocol.ended == end and protocol.clean
    assert not protocol.records
    ((first, payload),) = sent(protocol)
    assert (first, payload) == (0x88, _unmasked(data))


def _unmasked(data: bytes) -> bytes:
    return bytes(byte ^ b"\x11\x22\x33\x44"[i % 4] for i, byte in enumerate(data[6:]))


def test_any_number_of_empty_fragments_are_not_kept() -> None:
    protocol = opened()
    feed(protocol, frame(TEXT, b"", fin=False))
    flood = frame(CONT, b"", fin=False) * 2_000
    feed(protocol, flood)
    tracemalloc.start()
    try:
        for _ in range(5):
            feed(protocol, flood)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    feed(protocol, frame(CONT))
    assert messages(protocol) == [(1, b"")]


def test_it_stops_after_many_frames_and_goes_on_with_the_rest() -> None:
    protocol = opened()
    for data, taken in (
        (frame(TEXT, b"a") * 1000, 256),
        (frame(PING) * 1000, 256),
        (frame(BINARY, bytes(600_000)) * 4, 2),
    ):
        rest = protocol.feed(data)
        assert len(rest) == len(data) // (4 if taken == 2 else 1000) * ((4 if taken == 2 else 1000) - taken)
        feed(protocol, rest)
    assert len(messages(protocol)) == 1004
    assert len(sent(protocol)) == 1000


# ---- compression -----------------------------------------------------------------------------------------------


def test_compressed_messages_both_ways() -> None:
    protocol = opened(DEFLATE)
    (extensions,) = (value for name, value in protocol.fields if name == b"sec-websocket-extensions")
    assert extensions.startswith(b"permessage-deflate")
    feed(protocol, frame(TEXT, deflated(b"squeezed " * 100), rsv=4) + frame(TEXT, b"as it is"))
    assert messages(protocol) == [(1, b"squeezed " * 100), (1, b"as it is")]
    header, payload = protocol.encode(1, b"answer " * 100)
    assert header[0] == 0x80 | 0x40 | TEXT and len(payload) < 100
    inflate = zlib.decompressobj(wbits=-15)
    assert inflate.decompress(bytes(payload) + b"\x00\x00\xff\xff") == b"answer " * 100
    assert protocol.encode(2, b"tiny") == (b"\x82\x04", b"tiny"), "what cannot gain is sent as it is"
    header, payload = protocol.encode(2, b"x" * 300_000)
    assert header[0] == 0x80 | BINARY and len(payload) == 300_000, "the compressor would hold up the others"


def test_compression_can_be_switched_off() -> None:
    protocol = opened(DEFLATE, websocket_compression=False)
    assert [name for name, _ in protocol.fields] == [b"sec-websocket-accept"]
    feed(protocol, frame(TEXT, deflated(b"a"), rsv=4))
    assert protocol.ended is not None and protocol.ended[0] == 1002


def test_a_decompression_bomb_is_cut_off_at_the_limit() -> None:
    bomb = frame(BINARY, deflated(bytes(50_000_000)), rsv=4)
    protocol = opened(DEFLATE, websocket_max_message_bytes=100_000)
    tracemalloc.start()
    try:
        feed(protocol, bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert protocol.ended is not None and protocol.ended[0] == 1009
    assert not protocol.records


def test_garbage_instead_of_compressed_data_is_refused() -> None:
    protocol = opened(DEFLATE)
    feed(protocol, frame(BINARY, b"\xff\xff\xff\xff", rsv=4))
    assert protocol.ended is not None and protocol.ended[0] in (1002, 1007)


# ---- ours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_of_ours(size: int) -> None:
    header, payload = opened().encode(2, b"x" * size)
    assert list(server_frames(header + bytes(payload))) == [(0x82, b"x" * size)]


def test_our_close_waits_for_the_clients_and_drops_its_messages() -> None:
    protocol = opened()
    protocol.close(1000, "x" * 500)
    ((first, payload),) = sent(protocol)
    assert (first, payload) == (0x88, b"\x03\xe8" + b"x" * 123)
    assert not protocol.is_open and protocol.ended is None
    feed(protocol, close(1000))
    assert protocol.ended == (1000, "") and protocol.clean
    assert not sent(protocol)
