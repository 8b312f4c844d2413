from __future__ import annotations

from typing import Any

import pytest

from eagleray.http import response
from eagleray.http.response import BadResponseError, Framing, common_fields, encode_head
from eagleray.wire.messages import Headers


def encode(status: int = 200, headers: Headers | None = None, **changes: Any) -> Framing:
    arguments: dict[str, Any] = {
        "common": common_fields(0.0),
        "request_id": b"id",
        "method": "GET",
        "http11": True,
        "keep_alive": True,
        "body_length": 2,
    }
    return encode_head(status, headers or [], **(arguments | changes))


def fields(framing: Framing) -> dict[str, str]:
    lines = framing[0].decode().split("\r\n")[1:-2]
    names = [line.split(": ")[0] for line in lines]
    assert len(set(names)) == len(names), "a field is doubled"
    return dict(line.split(": ", 1) for line in lines)


def test_a_whole_response() -> None:
    framing = encode(200, [(b"content-type", b"text/plain")])
    assert framing[0].startswith(b"HTTP/1.1 200 OK\r\n") and framing[0].endswith(b"\r\n\r\n")
    assert fields(framing) == {
        "server": "eagleray",
        "date": "Thu, 01 Jan 1970 00:00:00 GMT",
        "content-type": "text/plain",
        "x-request-id": "id",
        "content-length": "2",
    }
    assert not framing[3]


@pytest.mark.parametrize("status", [200, 201, 204, 299, 304, 404, 700])
@pytest.mark.parametrize(
    "field",
    [
        (b"content-type", b"text/plain"),
        (b"Server", b"mine"),
        (b"connection", b"close"),
        (b"content-length", b"2"),
        (b"content-length", b"3"),
        (b"x-a", b"b\r\nx-b: c"),
        (b"x-a\n", b"b"),
        (b"x-a", b"\0"),
    ],
)
@pytest.mark.parametrize("request_id", [b"id", b"", b"a b", b"a\rb", b"caf\xe9"])
def test_the_short_way_writes_what_the_long_way_writes(
    status: int, field: tuple[bytes, bytes], request_id: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome() -> Framing | str:
        try:
            return encode(status, [field], request_id=request_id)
        except BadResponseError as error:
            return str(error)

    short, again = outcome(), outcome()
    monkeypatch.setattr(response, "_short_head", lambda *_: b"")
    assert short == again == outcome()


def test_our_fields_replace_the_applications() -> None:
    app: Headers = [
        (b"X-Request-ID", b"other"),
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"timeout=5"),
        (b"Content-Length", b"2"),
    ]
    assert fields(encode(headers=app))["x-request-id"] == "id"
    assert "transfer-encoding" not in fields(encode(headers=app))


def test_the_application_may_name_server_and_date() -> None:
    app: Headers = [(b"server", b"mine"), (b"date", b"today")]
    assert fields(encode(headers=app))["server"] == "mine"
    assert fields(encode(headers=app))["date"] == "today"


@pytest.mark.parametrize(
    "bad",
    [
        [(b"x", b"a\r\nSet-Cookie: b")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\rb")],
        [(b"x\r\ny", b"a")],
        [(b"x", b"\0")],
        [(b"content-length", b"3")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"2"), (b"content-length", b"4")],
        [(b"server", b"a"), (b"server", b"b")],
    ],
)
def test_a_head_that_would_break_the_response_is_refused(bad: Headers) -> None:
    with pytest.raises(BadResponseError):
        encode(headers=bad)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 1000, -1])
def test_only_final_statuses_are_sent(status: int) -> None:
    with pytest.raises(BadResponseError):
        encode(status)


def test_an_unknown_status_has_no_phrase() -> None:
    assert encode(299)[0].startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize(
    ("changes", "length", "chunked", "close"),
    [
        ({"body_length": -1}, -1, True, False),
        ({"body_length": -1, "http11": False}, -1, False, True),
        ({"body_length": -1, "headers": [(b"content-length", b"7")]}, 7, False, False),
        ({"body_length": 0, "method": "HEAD", "headers": [(b"content-length", b"7")]}, 7, False, False),
        ({"body_length": 0, "method": "HEAD"}, -1, False, False),
        ({"body_length": 0, "status": 204}, -1, False, False),
        ({"body_length": 0, "status": 304, "headers": [(b"content-length", b"7")]}, 7, False, False),
        ({"body_length": 0}, 0, False, False),
        ({"headers": [(b"connection", b"close")]}, 2, False, True),
        ({"keep_alive": False}, 2, False, True),
    ],
)
def test_framing(changes: dict[str, Any], length: int, chunked: bool, close: bool) -> None:
    framing = encode(**changes)
    assert framing[1:] == (length, chunked, close)
    assert ("connection" in fields(framing)) == close


def test_http_1_0_is_told_that_the_connection_stays() -> None:
    assert fields(encode(http11=False))["connection"] == "keep-alive"
