"""Leases begin with a frame and end with the last view, whatever happens in between."""

from __future__ import annotations

import struct

import pytest
from tests.shared_memory import Link, Owner

from eagleray.base.errors import ProtocolError
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.leases import Close, Open, Opened, Release, encode, refusal
from eagleray.wire.parts import directory, inline, share, split

BIG = MAX_CHUNK + 1


def opened(owner: Owner) -> Link:
    """A link whose borrower has mapped the pool's first segment."""
    link = Link(owner)
    assert link.send(owner.value(b"x" * BIG)) is None
    link.run()
    return link


def test_the_first_message_of_a_segment_goes_by_the_socket_and_the_next_one_does_not() -> None:
    owner = Owner()
    link = opened(owner)
    value = owner.value(b"y" * BIG)
    received = link.send(value)
    assert received is not None and bytes(split(received)[0]) == b"y" * BIG
    assert len(link.lender.lent) == 1


def test_the_lease_ends_with_the_last_view() -> None:
    owner = Owner()
    link = opened(owner)
    received = link.send(owner.value(b"y" * BIG))
    assert received is not None
    memory = received.memory
    del received
    link.run()
    assert owner.pool.leased == 1 and len(link.lender.lent) == 1
    del memory
    link.run()
    assert owner.pool.leased == 0 and not link.lender.lent


def test_a_refused_call_is_lent_to_another_peer_and_both_give_it_back() -> None:
    owner = Owner()
    first, second = opened(owner), opened(owner)
    value = owner.value(b"y" * BIG)
    received = [first.send(value), second.send(value)]
    assert None not in received
    received.clear()
    first.run()
    second.run()
    assert owner.pool.leased == 1, "the call itself still holds it"
    del value
    assert owner.pool.leased == 0


def test_what_was_lent_on_a_lost_connection_is_never_written_again() -> None:
    owner = Owner()
    link = opened(owner)
    received = link.send(owner.value(b"y" * BIG))
    assert received is not None
    link.close()
    fresh = owner.value(b"z" * BIG)
    assert bytes(split(received)[0]) == b"y" * BIG
    assert owner.pool.leased == 1 and owner.closed == [1]
    del received, fresh
    link.run()
    assert owner.pool.leased == 0 and not link.back


def test_a_segment_that_is_given_up_is_forgotten_there() -> None:
    owner = Owner()
    link = opened(owner)
    owner.pool.expire(100.0, 0.0)
    link.run()
    assert not link.borrower._mapped and not link.lender._offered
    assert link.send(owner.value(b"y" * BIG)) is None, "a new segment"
    link.run()
    assert link.send(owner.value(b"y" * BIG)) is not None


def test_a_peer_that_cannot_open_our_memory_gets_everything_by_the_socket() -> None:
    owner = Owner(reachable=False)
    link = opened(owner)
    assert link.lender.take is None
    value = owner.value(b"y" * BIG)
    assert link.send(value) is None and not link.there
    assert split(inline(value))[0] == b"y" * BIG


def test_a_refusal_of_what_was_given_up_meanwhile_says_nothing() -> None:
    owner = Owner(reachable=False)
    link = Link(owner)
    assert link.send(owner.value(b"x" * BIG)) is None
    owner.connections.clear()  # it hears of it later than the peer's answer comes
    owner.pool.expire(100.0, 0.0)
    link.run()
    assert link.lender.take is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<QQ", 1, 7) + directory([1]),
        struct.pack("<QQ", 1, 1) + directory([1 << 40]),
        struct.pack("<QQ", 1, 1) + directory([5])[:-1],
        struct.pack("<QQ", 1, 1) + directory([]),
    ],
)
def test_a_malformed_lease_breaks_the_protocol(data: bytes) -> None:
    link = opened(Owner())
    with pytest.raises(ProtocolError):
        link.borrower.borrow(data)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x91\x09", encode(Release([5]))])
def test_a_malformed_message_breaks_the_protocol(data: bytes) -> None:
    link = opened(Owner())
    with pytest.raises(ProtocolError):
        link.lender.receive(data)


def test_who_shares_nothing_refuses_an_offer_and_nothing_else() -> None:
    assert refusal(encode(Open(3, 1, 1, 1, 1, 1))) == encode(Opened(3, False))
    with pytest.raises(ProtocolError):
        refusal(encode(Close(3)))


def test_small_values_and_values_without_memory_are_not_shared() -> None:
    owner = Owner()
    assert share([b"x" * 1000], owner.take) is None and share([b"x" * BIG], lambda size: None) is None
    assert not owner.pool.segments
