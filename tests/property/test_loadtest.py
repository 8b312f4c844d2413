"""Histograms, arrivals and answers of the load tester, whatever they are given."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.loadtest.answer import MAX_HEAD_BYTES, AnswerReader, BadAnswerError
from eagleray.loadtest.arrivals import constant, poisson
from eagleray.loadtest.histogram import LONGEST_S, SHORTEST_S, Histogram

latencies = st.lists(st.floats(SHORTEST_S, LONGEST_S), min_size=1, max_size=200)


@given(latencies, st.floats(0, 100))
def test_a_percentile_is_within_one_percent(found: list[float], percent: float) -> None:
    exact = sorted(found)[max(1, math.ceil(len(found) * percent / 100)) - 1]
    assert abs(Histogram(found).percentile(percent) - exact) <= 0.005 * exact


@given(latencies, latencies)
def test_adding_is_counting_all(one: list[float], other: list[float]) -> None:
    both = Histogram(one)
    both.add(Histogram(other))
    all_at_once = Histogram(one + other)
    assert both.buckets == all_at_once.buckets and both.count == all_at_once.count
    assert (both.lowest, both.highest) == (all_at_once.lowest, all_at_once.highest)
    assert math.isclose(both.mean, all_at_once.mean)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50), st.integers(1, 20))
def test_any_latency_is_counted_and_bars_hold_all(found: list[float], at_most: int) -> None:
    histogram = Histogram(found)
    bars = list(histogram.bars(at_most))
    assert len(bars) <= at_most and sum(count for _, _, count in bars) == len(found)
    assert all(one[1] == other[0] for one, other in pairwise(bars))
    assert histogram.percentile(100) == max(found)


@given(latencies, st.integers(1, 100))
def test_what_is_missing_is_infinitely_late(found: list[float], missing: int) -> None:
    histogram = Histogram(found)
    held = 100 * len(found) / (len(found) + missing)
    assert histogram.percentile(100, missing) == math.inf
    assert histogram.percentile(held * 0.999, missing) <= max(found)
    assert math.isnan(Histogram().percentile(50)) and Histogram().percentile(50, 1) == math.inf


def test_memory_of_a_histogram_is_bounded() -> None:
    draw = random.Random(5)
    histogram = Histogram(10 ** draw.uniform(-9, 9) for _ in range(100_000))
    assert len(histogram.buckets) <= 4300


@given(st.floats(0.01, 1e6), st.integers(1, 1000))
def test_constant_arrivals_do_not_drift(rate: float, number: int) -> None:
    arrivals = constant(rate)
    times = [next(arrivals) for _ in range(number + 1)]
    assert times[0] == 0.0 and math.isclose(times[-1], number / rate)
    assert all(one < other for one, other in pairwise(times))


@given(st.floats(0.1, 1e5), st.integers(0, 2**32))
def test_poisson_arrivals_have_their_rate(rate: float, seed: int) -> None:
    arrivals = poisson(rate, random.Random(seed).expovariate)
    times = [next(arrivals) for _ in range(2000)]
    assert times == sorted(times)
    assert 0.85 < 2000 / times[-1] / rate < 1.15
    again = poisson(rate, random.Random(seed).expovariate)
    assert [next(again) for _ in range(2000)] == times


bodies = st.binary(max_size=300)
chunks = st.lists(st.binary(min_size=1, max_size=50), max_size=5)
cuts = st.lists(st.integers(0, 2000), max_size=8)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in at} | {0, len(data)})
    return [data[one:other] for one, other in pairwise(places)]


def with_length(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(parts: list[bytes]) -> bytes:
    head = b"HTTP/1.1 207 Multi\r\ntransfer-encoding: chunked\r\n\r\n"
    sent = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
    return head + sent + b"0\r\nTrailer: t\r\n\r\n"


@given(bodies, chunks, cuts, st.integers(0, 30))
def test_answers_are_read_however_they_are_cut(
    body: bytes, parts: list[bytes], at: list[int], interim: int
) -> None:
    reader = AnswerReader(keep_body=True)
    early = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" * interim
    for data, status, expected in (
        (early + with_length(body), 200, body),
        (in_chunks(parts), 207, b"".join(parts)),
    ):
        reader.begin()
        *first, last = [reader.feed(piece) for piece in pieces(data, at)]
        assert not any(first) and last
        assert (reader.status, reader.body, reader.size) == (status, expected, len(expected))
        assert not reader.is_last


@given(st.binary(max_size=400), cuts, st.booleans())
def test_nonsense_is_an_answer_or_an_error(data: bytes, at: list[int], has_head: bool) -> None:
    reader = AnswerReader()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if has_head else b""
    try:
        for piece in pieces(head + data, at):
            if reader.feed(piece):
                break
    except BadAnswerError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x00" * 10,
        b"SSH-2.0-OpenSSH",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * (MAX_HEAD_BYTES + 1),
    ],
)
def test_what_is_no_answer_is_told(data: bytes) -> None:
    with pytest.raises(BadAnswerError):
        AnswerReader().feed(data)


@pytest.mark.parametrize(
    ("data", "head_only", "complete", "is_last"),
    [
        (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", False, True, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True, True, False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", False, True, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False, True, True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", False, True, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", False, True, True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", False, False, True),
    ],
)
def test_framing(data: bytes, head_only: bool, complete: bool, is_last: bool) -> None:
    reader = AnswerReader()
    reader.begin(head_only=head_only)
    assert reader.feed(data) is complete and reader.is_last is is_last
    assert complete or reader.end()
