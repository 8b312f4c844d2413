"""When frames leave: a peer gets work at once, and many calls or answers of one turn in a few writes."""

from __future__ import annotations

import asyncio
import socket

from eagleray.rpc.connection import Connection
from eagleray.wire.handshake import Handshake
from eagleray.wire.session import MANY, Session


class Frames(Session):
    """A session that is only asked to send."""


def writes(*turns: list[tuple[int, int]]) -> list[bytes]:
    """What reaches the peer, write by write: a socket of packets keeps them apart.

    Each turn of the loop emits so many whole frames (first number) while so many calls are under way (second).
    """

    async def main() -> list[bytes]:
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, peer:
            peer.setblocking(False)
            connection = Connection(lambda: None)
            session = Frames(
                connection.wake, Handshake(server=True, secret=None, nonce=bytes(16)), connection.lock
            )
            connection.attach(session)
            session.out.clear()
            connection._transport = Packets(ours)  # type: ignore[assignment]
            number = 0
            for turn in turns:
                for count, under_way in turn:
                    for _ in range(count):
                        session.emit_whole(b"%d" % (number % 10), under_way)
                        number += 1
                await asyncio.sleep(0)
            found = []
            while True:
                try:
                    found.append(peer.recv(1000))
                except BlockingIOError:
                    return found

    return asyncio.run(main())


class Packets:
    """A transport whose writes stay apart."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def write(self, data: bytes) -> None:
        self._socket.send(data)

    def writelines(self, parts: list[bytes]) -> None:
        self._socket.send(b"".join(parts))


def test_few_calls_leave_each_at_once() -> None:
    assert writes([(3, 1)]) == [b"0", b"1", b"2"]


def test_the_first_of_many_leaves_at_once_and_the_others_in_groups() -> None:
    assert writes([(10, MANY)]) == [b"0", b"1234", b"5678", b"9"]


def test_nothing_stays_behind_and_each_turn_begins_anew() -> None:
    assert writes([(2, MANY)], [(1, MANY)], [(3, MANY)]) == [b"0", b"1", b"2", b"3", b"45"]


def test_frames_stay_in_order_when_calls_become_few() -> None:
    assert b"".join(writes([(3, MANY), (1, 1), (2, MANY)])) == b"012345"
