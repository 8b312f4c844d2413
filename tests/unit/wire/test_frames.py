"""Frames are cut out of any split of the bytes, and nothing over the limits is kept."""

from __future__ import annotations

import struct

import pytest

from eagleray.base.errors import ProtocolError
from eagleray.wire.frames import DATA, END, MAX_CHUNK, MAX_HEAD, Buffer, Decoder, append_frame

FRAMES = [
    (DATA, 1, b"", b""),
    (DATA | END, 2, b"head", b"body"),
    (DATA, 0xFFFFFFFF, b"h" * MAX_HEAD, b"b" * MAX_CHUNK),
    (DATA, 4, b"", b"x" * 20_000),
]


def encoded() -> bytes:
    out: list[Buffer] = []
    for frame in FRAMES:
        append_frame(out, *frame)
    return b"".join(out)


@pytest.mark.parametrize("size", [1000, 4096, 65_537, 262_144, 10_000_000])
def test_frames_survive_every_split(size: int) -> None:
    frames: list[tuple[int, int, bytes, bytes]] = []
    decoder = Decoder(lambda *frame: frames.append(frame))
    data = encoded()
    for start in range(0, len(data), size):
        decoder.feed(data[start : start + size])
    assert frames == FRAMES


def test_frames_survive_single_bytes() -> None:
    frames: list[tuple[int, int, bytes, bytes]] = []
    decoder = Decoder(lambda *frame: frames.append(frame))
    for byte in encoded()[:40]:
        decoder.feed(bytes([byte]))
    assert frames == FRAMES[:2]


@pytest.mark.parametrize(
    ("length", "head"), [(MAX_CHUNK + 1, 0), (MAX_HEAD + 1, MAX_HEAD + 1), (3, 4), (0xFFFFFFFF, 0)]
)
def test_a_frame_over_the_limits_is_refused_by_its_header(length: int, head: int) -> None:
    decoder = Decoder(lambda *frame: None)
    with pytest.raises(ProtocolError):
        decoder.feed(struct.pack("<III", length, 1, DATA | head << 8))


def test_stop_inside_a_callback_drops_the_rest() -> None:
    frames: list[int] = []

    def on_frame(meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        frames.append(stream_id)
        decoder.stop()

    decoder = Decoder(on_frame)
    decoder.feed(encoded())
    decoder.feed(encoded())
    assert frames == [1]


@pytest.mark.parametrize("size", [1, 11, 12, 13, 1000, 65_537, 10_000_000])
def test_a_body_with_a_destination_is_put_there(size: int) -> None:
    """Large data of stream 4 has a place, whatever the split; what has come whole is handed over as ever."""
    place = bytearray(300_000)
    heard: list[tuple[int, int, int]] = []
    filled = 0

    def destination(meta: int, stream_id: int, length: int) -> memoryview | None:
        return memoryview(place)[filled : filled + length] if stream_id == 4 else None

    def on_placed(meta: int, stream_id: int, length: int) -> None:
        nonlocal filled
        filled += length
        heard.append((meta, stream_id, length))

    def on_frame(meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        nonlocal filled
        if stream_id == 4:
            place[filled : filled + len(body)] = body
            filled += len(body)
        heard.append((meta, stream_id, len(body)))

    decoder = Decoder(on_frame)
    decoder.destination = destination
    decoder.on_placed = on_placed
    out: list[Buffer] = []
    chunks = [bytes([1]) * 100_000, bytes([2]) * 150_000, bytes([3]) * 50_000]
    for chunk in chunks:
        append_frame(out, DATA, 4, b"", chunk)
        append_frame(out, DATA, 5, b"h", b"between")
    data = b"".join(out)
    position = 0
    while position < len(data):
        if decoder.rest is not None and position % 2:
            # as a transport that reads into the place itself
            count = min(len(decoder.rest), size, len(data) - position)
            decoder.rest[:count] = data[position : position + count]
            decoder.filled(count)
            position += count
        else:
            decoder.feed(data[position : position + size])
            position += size
    assert place == b"".join(chunks)
    expected = [
        (DATA, 4, 100_000),
        (DATA, 5, 7),
        (DATA, 4, 150_000),
        (DATA, 5, 7),
        (DATA, 4, 50_000),
        (DATA, 5, 7),
    ]
    assert heard == expected and decoder.rest is None
