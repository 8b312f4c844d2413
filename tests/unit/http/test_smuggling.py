"""Hostile requests: each is refused, or means exactly one thing. h11 gives the second opinion."""

from __future__ import annotations

import h11
import pytest
from tests.unit.http.reading import outcome, read

from eagleray.http.request import Request

H = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + H
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def head(line: bytes = b"GET / HTTP/1.1", headers: bytes = H) -> bytes:
    return line + b"\r\n" + headers + b"\r\n"


REFUSED = {
    # who is asked
    "no host": head(headers=b""),
    "two hosts": head(headers=b"Host: a\r\nHost: b\r\n"),
    "two equal hosts": head(headers=b"Host: a\r\nhost: a\r\n"),
    "host list": head(headers=b"Host: a, b\r\n"),
    "host with path": head(headers=b"Host: a/b\r\n"),
    "host with space": head(headers=b"Host: a b\r\n"),
    "host with user": head(headers=b"Host: u@a\r\n"),
    "host with quote": head(headers=b'Host: "a"\r\n'),
    "two hosts in 1.0": head(b"GET / HTTP/1.0", b"Host: a\r\nHost: b\r\n"),
    "target of another host": head(b"GET http://b/ HTTP/1.1"),
    "target of another port": head(b"GET http://a:81/ HTTP/1.1"),
    "target with user": head(b"GET http://u@a/ HTTP/1.1"),
    "target of another scheme": head(b"GET ftp://a/ HTTP/1.1"),
    "target without slash": head(b"GET index HTTP/1.1"),
    "target with fragment": head(b"GET /a#b HTTP/1.1"),
    "target not ascii": head(b"GET /\xff HTTP/1.1"),
    "target with space": head(b"GET /a b HTTP/1.1"),
    "target with NUL": head(b"GET /a\0b HTTP/1.1"),
    "target with DEL": head(b"GET /\x7f HTTP/1.1"),
    "tunnel": head(b"CONNECT a:80 HTTP/1.1"),
    # how long the body is
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "CL and TE": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two CL": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal CL": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "CL list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "CL plus": POST + b"Content-Length: +3\r\n\r\nabc",
    "CL minus": POST + b"Content-Length: -3\r\n\r\nabc",
    "CL hex": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "CL underscore digits": POST + b"Content-Length: 1_0\r\n\r\nabcdefghij",
    "CL empty": POST + b"Content-Length: \r\n\r\n",
    "CL fraction": POST + b"Content-Length: 3.0\r\n\r\nabc",
    "CL inner space": POST + b"Content-Length: 1 0\r\n\r\nabcdefghij",
    "CL overflow": POST + b"Content-Length: 18446744073709551617\r\n\r\na",
    "CL not ascii": POST + b"Content-Length: \xb2\r\n\r\nab",
    "TE twice chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE gzip": POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "TE chunked then gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE two lines": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE in 1.0": b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE name with space": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE name lookalike": POST + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL name lookalike": POST + b"Content_Length: 3\r\n\r\nabc",
    "CL name with tab": POST + b"Content-Length\t: 3\r\n\r\nabc",
    # chunks
    "chunk size empty": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "chunk size sign": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "chunk size prefix": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size letters": CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n",
    "chunk size overflow": CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "chunk size then space": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "chunk size bare LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "chunk data too long": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk data bare LF": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "chunk extension CR": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "chunk extension LF": CHUNKED + b"3;a\nabc\r\n0\r\n\r\n",
    "last chunk bare CR": CHUNKED + b"0\r\r\n\r\n",
    # lines and names
    "bare LF lines": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR line": b"GET / HTTP/1.1\rHost: a\r\r",
    "CR in value": head(headers=H + b"X: a\rb\r\n"),
    "LF in value": head(headers=H + b"X: a\n b\r\n"),
    "NUL in value": head(headers=H + b"X: a\0b\r\n"),
    "folded line": head(headers=H + b"X: a\r\n b\r\n"),
    "folded first line": head(headers=b" X: a\r\n" + H),
    "empty name": head(headers=H + b": a\r\n"),
    "name with space": head(headers=H + b"X Y: a\r\n"),
    "name with NUL": head(headers=H + b"X\0: a\r\n"),
    "name not ascii": head(headers=H + b"\xc3\xbc: a\r\n"),
    "line without colon": head(headers=H + b"oops\r\n"),
    # versions and methods
    "HTTP/0.9 with headers": b"GET /\r\n" + H + b"\r\n",
    "HTTP/1.2": head(b"GET / HTTP/1.2"),
    "HTTP/2.0": head(b"GET / HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version in lower case": head(b"GET / http/1.1"),
    "version with two digits": head(b"GET / HTTP/1.10"),
    "version missing": head(b"GET / "),
    "method in lower case": head(b"get / HTTP/1.1"),
    "method with colon": head(b"GET: / HTTP/1.1"),
    "method not ascii": head(b"G\xcbT / HTTP/1.1"),
    "RTSP": head(b"DESCRIBE rtsp://a RTSP/1.0"),
    "ICE": head(b"SOURCE / ICE/1.0"),
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_hostile_request_is_refused(data: bytes) -> None:
    """Nothing of it is dispatched, and nothing that follows it on the connection either."""
    entries = outcome(data, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(entries) == 1 and entries[0] in (400, 405, 505)


ACCEPTED = {
    "plain": head(),
    "lower-case host name": head(headers=b"host: a\r\n"),
    "port": head(headers=b"Host: a:80\r\n"),
    "IPv6": head(headers=b"Host: [::1]:80\r\n"),
    "empty value": head(headers=H + b"X:\r\n"),
    "value with tab": head(headers=H + b"X:\ta\tb\r\n"),
    "leading zeros": POST + b"Content-Length: 003\r\n\r\nabc",
    "no body": POST + b"Content-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunk extension": CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "trailer": CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    "body that looks like a request": POST
    + b"Content-Length: 35\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET with a body": head(headers=H + b"Content-Length: 3\r\n") + b"abc",
    "TE in mixed case": POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_both_parsers_agree_on_what_is_accepted(data: bytes) -> None:
    second = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
    entries = read(data + second)
    ours = [(e.method, e.path, e.body) for e in entries if isinstance(e, Request)]
    assert ours == by_h11(data + second)
    assert len(ours) == 2


def by_h11(data: bytes) -> list[tuple[str, str, bytes]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[tuple[str, str, bytes]] = []
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            found.append((event.method.decode(), event.target.decode(), b""))
        elif isinstance(event, h11.Data):
            method, target, body = found[-1]
            found[-1] = (method, target, body + event.data)
        elif isinstance(event, h11.EndOfMessage):
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            return found


def test_the_corpus_is_large_enough() -> None:
    assert len(REFUSED) >= 60
