"""A request that goes to another deployment arrives with what the client has sent."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from starlette.requests import Request

from eagleray.replica.passed_request import send_requests

send_requests()


def request(method: str = "POST", *headers: tuple[bytes, bytes], body: bytes | None = None) -> Request:
    made = Request(
        {
            "type": "http",
            "method": method,
            "path": "/a",
            "query_string": b"x=1",
            "headers": [(b"x-user", b"ana"), *headers],
            "path_params": {"id": 7},
            "app": threading.Lock(),
        }
    )
    if body is not None:
        made._body = body
    return made


def arrived(sent: Request) -> Request:
    found = pickle.loads(pickle.dumps(sent))
    assert type(found) is Request
    return found


def test_what_the_client_has_sent_arrives() -> None:
    async def main() -> None:
        found = arrived(request(body=b'{"a": 1}'))
        assert await found.json() == {"a": 1} and await found.body() == b'{"a": 1}'
        assert [chunk async for chunk in found.stream() if chunk] == [b'{"a": 1}']
        assert found.method == "POST" and found.headers["x-user"] == "ana" and found.path_params == {"id": 7}
        assert found.query_params["x"] == "1" and "app" not in found.scope
        assert not await found.is_disconnected()
        assert await arrived(found).json() == {"a": 1}, "and on to the next one"

    asyncio.run(main())


def test_a_request_without_a_body_needs_no_reading() -> None:
    assert asyncio.run(arrived(request("GET")).body()) == b""


@pytest.mark.parametrize("header", [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")])
def test_a_body_that_was_not_read_stays(header: Any) -> None:
    with pytest.raises(TypeError, match=r"`await request\.body\(\)` first"):
        pickle.dumps(request("POST", header))
