"""A plain HTTP/1.1 client for the compatibility scripts: http.client, and a raw socket for what that hides.

In local testing mode there is no port, and http.client's connection leads to the engine in this process.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 30.0
IN_PROCESS = os.environ.get("SERVE_IMPL") == "local"


@dataclass(frozen=True)
class Reply:
    """A whole response. Header names are in lower case; `headers` keeps the last of equal names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    json: Any = None,
) -> Reply:
    """One request on a connection of its own."""
    headers = dict(headers or {})
    if json is not None:
        body = _dump(json)
        headers.setdefault("content-type", "application/json")
    connection = _connection(port)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def _connection(port: int) -> http.client.HTTPConnection:
    if IN_PROCESS:
        from eagleray.testing.client import LocalConnection  # absent where Ray is tested

        return LocalConnection(TIMEOUT_S)
    return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)


def _connected(port: int) -> Any:
    if IN_PROCESS:
        connection: Any = _connection(port)
        connection.connect()
        return connection.sock
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


class RawConnection:
    """A socket that speaks bytes, for partial requests, first chunks and disconnects."""

    def __init__(self, port: int) -> None:
        self.socket = _connected(port)
        self.received = b""

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, token: bytes) -> bytes:
        """Everything received so far, as soon as it contains `token`. EOFError when the peer closes before."""
        while token not in self.received:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"closed before {token!r}: {self.received!r}")
            self.received += data
        return self.received

    def read_to_end(self) -> bytes:
        while data := self.socket.recv(65536):
            self.received += data
        return self.received
