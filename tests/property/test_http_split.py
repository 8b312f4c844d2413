"""However the bytes of a connection are cut into reads, the same requests come out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.http.reading import outcome
from tests.unit.http.test_smuggling import ACCEPTED, REFUSED

_MESSAGES = [*ACCEPTED.values(), *REFUSED.values()]


@settings(deadline=None)
@given(st.data())
def test_any_cuts_give_the_same_outcome(data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.lists(st.sampled_from(_MESSAGES), min_size=1, max_size=4)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(*pieces) == outcome(stream)


def test_every_single_cut_gives_the_same_outcome() -> None:
    for message in _MESSAGES:
        stream = message + ACCEPTED["plain"]
        whole = outcome(stream)
        for cut in range(1, len(stream)):
            assert outcome(stream[:cut], stream[cut:]) == whole, (message, cut)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_noise_never_raises(noise: bytes, cut: int) -> None:
    outcome(noise[:cut], noise[cut:])
    outcome(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + noise)
