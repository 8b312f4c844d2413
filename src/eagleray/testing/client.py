"""HTTP requests to applications in local testing mode: through the proxy's own code, over memory, not a socket."""

from __future__ import annotations

import http.client
import json as json_module
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from eagleray.base.errors import NotRunningError
from eagleray.serve import local

TIMEOUT_S = 60.0


class Reply:
    """A whole response. `headers` are by name in lower case; of equal names the last one is kept."""

    def __init__(self, status_code: int, headers: dict[str, str], content: bytes) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.content.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json_module.loads(self.content)

    def __repr__(self) -> str:
        return f"Reply({self.status_code}, {self.content[:200]!r})"


class LocalClient:
    """Sends requests to all that runs in local testing mode. `prefix` comes before each path.

    A request that gets nothing for `timeout_s` raises TimeoutError. Any thread may use it; it holds nothing open.
    """

    def __init__(self, prefix: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self._prefix = prefix.rstrip("/")
        self._timeout_s = timeout_s

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
    ) -> Reply:
        """One request and its whole answer. `json` is encoded and named so; lists in `params` are repeated names."""
        with self.stream(
            method, path, params=params, headers=headers, content=content, json=json
        ) as response:
            return Reply(response.status, _headers(response), response.read())

    @contextmanager
    def stream(
        self,
        method: str,
        path: str = "/",
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; its answer is read as it comes, by `read1()` say. Leaving the block is a client that goes."""
        given = dict(headers or {})
        body = content.encode() if isinstance(content, str) else content
        if json is not None:
            body = json_module.dumps(json).encode()
            given.setdefault("content-type", "application/json")
        target = f"{self._prefix}{path}" or "/"
        if params:
            target += ("&" if "?" in target else "?") + urlencode(params, doseq=True)
        connection = LocalConnection(self._timeout_s)
        try:
            connection.request(method, target, body=body, headers=given)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def get(self, path: str = "/", **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def post(self, path: str = "/", **options: Any) -> Reply:
        return self.request("POST", path, **options)

    def put(self, path: str = "/", **options: Any) -> Reply:
        return self.request("PUT", path, **options)

    def patch(self, path: str = "/", **options: Any) -> Reply:
        return self.request("PATCH", path, **options)

    def delete(self, path: str = "/", **options: Any) -> Reply:
        return self.request("DELETE", path, **options)


class LocalConnection(http.client.HTTPConnection):
    """http.client's connection to the proxy of local testing mode. NotRunningError when nothing runs in that mode."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("local", timeout=timeout_s)

    def connect(self) -> None:
        engine = local.running()
        if engine is None:
            raise NotRunningError(
                "Nothing runs in local testing mode: serve.run(app, _local_testing_mode=True)."
            )
        self.sock: Any = engine.connect()
        self.sock.settimeout(self.timeout)


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
