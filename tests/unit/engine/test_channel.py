from __future__ import annotations

import msgspec
import pytest

from eagleray.base.errors import ProtocolError
from eagleray.engine.channel import FrameReader, encode_frame
from eagleray.wire.control import NodeCommand, StartChild, StopChild


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_frames_survive_any_split(step: int) -> None:
    commands = [StartChild(ref="a", module="m", payload=b"x" * 50), StopChild(ref="a", signal=9)]
    data = b"".join(map(encode_frame, commands))
    reader = FrameReader()
    bodies = [body for at in range(0, len(data), step) for body in reader.feed(data[at : at + step])]
    assert [msgspec.msgpack.decode(body, type=NodeCommand) for body in bodies] == commands


def test_absurd_length_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="4294967295"):
        list(FrameReader().feed(b"\xff\xff\xff\xff"))
