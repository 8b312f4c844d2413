"""URLs and requests: what is understood, and what is said of the rest."""

from __future__ import annotations

import pytest

from eagleray.base.errors import ConfigError
from eagleray.loadtest.plan import Message, Url


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("http://localhost:8000", "localhost", 8000, "/"),
        ("http://example.org/a/b?x=1&y=%20", "example.org", 80, "/a/b?x=1&y=%20"),
        ("http://[::1]:81/a", "::1", 81, "/a"),
        ("http://h/ä b#part", "h", 80, "/%C3%A4%20b"),
    ],
)
def test_urls(text: str, host: str, port: int, target: str) -> None:
    assert Url.parse(text) == Url(host, port, target)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://localhost", "plain HTTP/1.1 only, not https"),
        ("grpc://localhost:9000", "not grpc"),
        ("localhost:8000", "write http://host:port"),
        ("http://", "write http://host:port"),
        ("http://h:99999/", "Port out of range.* Write http://host:port"),
        ("http://user:secret@h/", "credentials as a header"),
    ],
)
def test_other_urls_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Url.parse(text)


def test_a_request() -> None:
    url = Url.parse("http://[::1]:81/a")
    assert Message().encode(url) == b"GET /a HTTP/1.1\r\nHost: [::1]:81\r\n\r\n"
    post = Message("POST", [("X-A", "b"), ("host", "other")], b"{}")
    assert post.encode(url, keep_alive=False) == (
        b"POST /a HTTP/1.1\r\nX-A: b\r\nhost: other\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    "message",
    [
        Message("GE T"),
        Message(headers=[("a b", "c")]),
        Message(headers=[("a", "b\r\nc: d")]),
        Message(headers=[("Content-Length", "7")]),
        Message(headers=[("a", "\u20ac")]),
    ],
)
def test_what_is_no_request_is_refused(message: Message) -> None:
    with pytest.raises(ConfigError):
        message.encode(Url.parse("http://h/"))


def test_secrets_of_a_url_are_sent_and_not_shown() -> None:
    url = Url.parse("http://host/a?token=s3cret&n=1")
    assert url.target == "/a?token=s3cret&n=1"
    assert str(url) == "http://host/a?token=<hidden>&n=1"
    with pytest.raises(ConfigError, match="'http://<hidden>@host/'"):
        Url.parse("http://joe:s3cret@host/")
