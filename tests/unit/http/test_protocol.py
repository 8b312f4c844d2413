from __future__ import annotations

import pytest
from tests.unit.http.reading import outcome, read

from eagleray.http.request import HttpRefused, Request


def one(data: bytes, **limits: float) -> Request:
    (request,) = read(data, **limits)
    assert isinstance(request, Request)
    return request


def get(headers: bytes = b"", target: bytes = b"/") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n"


def test_request_line_and_headers_are_split() -> None:
    request = one(get(b"X-Two:  b \r\nx-two: c\r\n", b"/a%20b/%C3%BC?q=%20&r=?"))
    assert request.path == "/a b/ü"
    assert request.raw_path == b"/a%20b/%C3%BC"
    assert request.query_string == b"q=%20&r=?"
    assert request.headers == [(b"host", b"a"), (b"x-two", b"b"), (b"x-two", b"c")]
    assert request.keep_alive and request.http11


def test_pipelined_requests_come_in_order() -> None:
    post = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    assert outcome(get(target=b"/1") + post + get(target=b"/3")) == [
        ("GET", "/1", ""),
        ("POST", "/2", "abc"),
        ("GET", "/3", ""),
    ]


def test_a_flood_of_pipelined_requests_waits_unparsed() -> None:
    assert len(read(get() * 20_000)) == 20_000


def test_chunked_body_is_joined_and_trailers_are_dropped() -> None:
    data = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Evil: 1\r\n\r\n"
    )
    request = one(data)
    assert request.body == b"abcde"
    assert b"x-evil" not in dict(request.headers)


def test_keep_alive_follows_version_and_connection_header() -> None:
    assert not one(get(b"Connection: close\r\n")).keep_alive
    assert not one(b"GET / HTTP/1.0\r\n\r\n").keep_alive
    assert one(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive


@pytest.mark.parametrize("tail", [b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_upgrade_is_ignored_and_its_body_kept(tail: bytes) -> None:
    body = {b"": b"", b"Content-Length: 3\r\n": b"abc"}.get(tail, b"3\r\nabc\r\n0\r\n\r\n")
    head = (
        b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        + tail
        + b"\r\n"
    )
    data = head + body + get(target=b"/next")
    expected = [("POST", "/u", "abc" if tail else ""), ("GET", "/next", "")]
    assert outcome(data) == expected
    assert outcome(*[data[i : i + 1] for i in range(len(data))]) == expected


def test_underscore_names_are_dropped_unless_allowed() -> None:
    data = get(b"user_id: 1\r\nserve_multiplexed_model_id: m\r\n")
    request = one(data)
    assert request.known[b"serve-multiplexed-model-id"] == b"m"
    assert [name for name, _ in request.headers] == [b"host", b"serve_multiplexed_model_id"]
    assert (b"user_id", b"1") in one(data, drop_underscore_headers=False).headers


def test_absolute_target_names_the_same_host() -> None:
    assert one(b"GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n").path == "/x"
    assert one(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").path == "/"


def test_a_target_that_comes_again_is_checked_against_the_host_again() -> None:
    absolute = b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n"
    first, second, refused = read(absolute + absolute + absolute.replace(b"Host: a", b"Host: b"))
    assert isinstance(first, Request) and isinstance(second, Request) and first.path == second.path == "/x"
    assert isinstance(refused, HttpRefused) and refused.status == 400


def test_targets_of_one_connection_are_told_apart() -> None:
    targets = [b"/a?x=1", b"/a?x=1", b"/a?x=2", b"/%61", b"/a?x=1"]
    found = read(b"".join(get(target=target) for target in targets))
    parts = [(one.raw_path, one.query_string) for one in found if isinstance(one, Request)]
    assert parts == [(b"/a", b"x=1"), (b"/a", b"x=1"), (b"/a", b"x=2"), (b"/%61", b""), (b"/a", b"x=1")]


@pytest.mark.parametrize(
    ("data", "limits", "status"),
    [
        (get(b"X: " + b"a" * 70_000 + b"\r\n"), {}, 431),
        (get(b"X: " + b"a" * 80_000), {}, 431),
        (get(b"A: b\r\n" * 100), {}, 431),
        (get(b"A: " + b"b" * 90 + b"\r\n"), {"max_header_bytes": 64}, 431),
        (get(target=b"/" + b"a" * 16_384), {}, 414),
        (b"GET /" + b"a" * 17_000, {}, 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", {"max_request_body_bytes": 10}, 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nabcde\r\n" * 3,
            {"max_request_body_bytes": 10},
            413,
        ),
        (get(b"Expect: the-unexpected\r\nContent-Length: 1\r\n"), {}, 417),
        (get().replace(b"GET", b"BREW"), {}, 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", {}, 405),
        (get().replace(b"1.1", b"2.0"), {}, 505),
    ],
)
def test_limits_have_their_status(data: bytes, limits: dict[str, float], status: int) -> None:
    assert outcome(data, **limits) == [status]


def test_limits_are_inclusive() -> None:
    assert len(read(get(b"A: b\r\n" * 99))) == 1
    assert one(get(target=b"/" + b"a" * 16_383)).path
    assert one(get(b"X: " + b"a" * 65_000 + b"\r\n")).headers


@pytest.mark.parametrize(
    "waste",
    [b"1;" + b"x" * 200_000, b"0\r\nX: " + b"y" * 200_000, b"1\r\na\r\n0\r\n" + b"Z: z\r\n" * 40_000],
)
def test_chunk_extensions_and_trailers_are_bounded(waste: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert outcome(head + waste) == [400]


def test_many_small_chunks_are_no_waste() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = one(head + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
    assert len(request.body) == 50_000


def test_nothing_follows_a_refusal() -> None:
    assert outcome(get(target=b"/ok") + b"BAD\r\n\r\n" + get(), get()) == [("GET", "/ok", ""), 400]


def test_an_empty_line_before_a_request_is_skipped() -> None:
    assert outcome(b"\r\n" + get()) == [("GET", "/", "")]
