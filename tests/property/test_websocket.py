"""Whatever a client sends over a WebSocket, in whatever cuts: no exception, bounded output, the right messages."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.http.test_websocket import WRONG, feed, messages, opened
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
    server_frames,
)
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.protocol import OPEN

from eagleray.http.websocket import WebSocketProtocol

_FRAMES = [
    frame(TEXT, b"text"),
    frame(BINARY, b"\x00" * 200),
    frame(TEXT, b"a", fin=False),
    frame(CONT, b"b", fin=False),
    frame(CONT, b"c"),
    frame(PING, b"p"),
    frame(PONG, b"p"),
    frame(TEXT, deflated(b"squeezed" * 50), rsv=4),
    frame(BINARY, deflated(bytes(5000)), rsv=4),
    frame(CLOSE),
    close(1000),
    *(data for data, _ in WRONG.values()),
]


def outcome(*pieces: bytes, deflate: bool) -> tuple[object, ...]:
    protocol = opened(*([DEFLATE] if deflate else []), websocket_max_message_bytes=2000)
    output = b""
    for piece in pieces:
        feed(protocol, piece)
        output += b"".join(protocol.take_output())
    for _, payload in messages(protocol):
        assert len(payload) <= 2000
    closes = [payload for first, payload in server_frames(output) if first == 0x88]
    assert len(closes) == (0 if protocol.is_open else 1)
    assert len(output) <= len(b"".join(pieces)) + 127
    return messages(protocol), protocol.ended, protocol.clean, protocol.is_open, closes


@settings(deadline=None)
@given(st.data(), st.booleans())
def test_any_cuts_give_the_same_outcome(data: st.DataObject, deflate: bool) -> None:
    stream = b"".join(data.draw(st.lists(st.sampled_from(_FRAMES), min_size=1, max_size=8)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(*pieces, deflate=deflate) == outcome(stream, deflate=deflate)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(_FRAMES)), max_size=8), st.booleans())
def test_noise_never_raises_and_costs_no_more_than_it_has(pieces: list[bytes], deflate: bool) -> None:
    _, ended, clean, is_open, _ = outcome(*pieces, deflate=deflate)
    assert (ended is None) == is_open
    assert not (clean and is_open)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.text(max_size=300)), max_size=10), st.booleans())
def test_a_real_client_and_we_understand_each_other(said: list[tuple[bool, str]], deflate: bool) -> None:
    server = opened(*([DEFLATE] if deflate else []))
    client = _client(server, deflate)
    expected = []
    for is_text, text in said:
        data = text.encode()
        (client.send_text if is_text else client.send_binary)(data)
        expected.append((1 if is_text else 2, data))
    feed(server, b"".join(client.data_to_send()))
    assert messages(server) == expected
    for kind, data in expected:
        header, payload = server.encode(kind, data)
        client.receive_data(header + bytes(payload))
    heard = [event for event in client.events_received() if isinstance(event, Frame)]
    assert [(int(event.opcode), bytes(event.data)) for event in heard] == expected


def _client(server: WebSocketProtocol, deflate: bool) -> ClientProtocol:
    from websockets.uri import parse_uri

    client = ClientProtocol(parse_uri("ws://t/"), state=OPEN)
    if deflate:
        (answer,) = (value.decode() for name, value in server.fields if name == b"sec-websocket-extensions")
        from websockets.headers import parse_extension

        ((_, parameters),) = parse_extension(answer)
        factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
        client.extensions = [factory.process_response_params(parameters, [])]
    return client
