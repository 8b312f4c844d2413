"""An instance by the address of its REST server, for `--address http://...`: the same wishes, over HTTP.

The token comes from EAGLERAY_TOKEN, from the file that EAGLERAY_TOKEN_FILE names, or, for an instance of this user on
this machine, from its runtime directory. Blocking; it must not know the commands that use it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from eagleray.admin.tokens import ADMIN_FILE, URL_FILE
from eagleray.base.errors import (
    ConfigError,
    EaglerayError,
    NotFoundError,
    NotRunningError,
    PreconditionError,
)
from eagleray.base.settings import Settings
from eagleray.engine.sessions import runtime_dirs

DEFAULT_ADDRESS = "http://localhost:8265"
"""Where Ray's own command line looks."""

_APPLICATIONS = "/api/serve/applications/"
_TIMEOUT_S = 30.0
_ERRORS: dict[int, type[EaglerayError]] = {400: ConfigError, 404: NotFoundError, 412: PreconditionError}


class RemoteInstance:
    """One REST server. Methods raise ConfigError, NotFoundError and PreconditionError for what it says so of,

    NotRunningError when nobody listens there, and EaglerayError for everything else.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, token: str | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        """Without `token` it is looked for. Raises ConfigError for what is no address, or a token that is not there.

        `timeout_s` is for each silence of the server.
        """
        self._timeout_s = timeout_s
        self.address = address.rstrip("/")
        self._url = _split(self.address)
        self._token = find_token(self.address) if token is None else token

    def apply(self, config: dict[str, Any], merge: bool = False) -> list[str]:
        """Makes a config what is wanted; returns warnings. `merge`: applications it does not name stay."""
        return self._put(_APPLICATIONS + ("?merge=true" if merge else ""), config)

    def apply_application(self, name: str, config: dict[str, Any]) -> list[str]:
        """The same for one application; all others stay."""
        return self._put(_APPLICATIONS + quote(name, safe=""), config)

    def details(self, api_type: str | None = None, *, routed: bool = False) -> dict[str, Any]:
        """ServeInstanceDetails; of `declarative` or `imperative` applications only when that is asked for.

        `routed`: once every router knows what runs, so that a request sent then is answered.
        """
        query = {"api_type": api_type or "", "routed": "true" if routed else ""}
        text = urlencode({key: value for key, value in query.items() if value})
        return self._get(_APPLICATIONS + (f"?{text}" if text else ""))

    def version(self) -> dict[str, Any]:
        """What serves there."""
        return self._get("/api/ray/version")

    def recollect(self, what: str, query: str = "") -> dict[str, Any]:
        """`history`, `events` or `overview`; `query` is what stands behind the `?`."""
        return self._get(f"/api/v1/{what}" + (f"?{query}" if query else ""))

    def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        """Sets a deployment's number of replicas."""
        path = f"/api/v1/applications/{quote(app, safe='')}/deployments/{quote(deployment, safe='')}/scale"
        self._ask("POST", path, {"target_num_replicas": num_replicas})

    def delete(self, name: str) -> None:
        """Begins to delete an application."""
        self._ask("DELETE", _APPLICATIONS + quote(name, safe=""))

    def shutdown(self) -> None:
        """Begins to end the instance."""
        self._ask("DELETE", _APPLICATIONS)

    def _get(self, path: str) -> dict[str, Any]:
        body, _ = self._ask("GET", path)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EaglerayError(
                f"{self.address}{path} has not answered with a JSON object: no Eagleray is there."
            )
        return found

    def _put(self, path: str, config: dict[str, Any]) -> list[str]:
        _, headers = self._ask("PUT", path, config)
        warnings: list[str] = json.loads(headers.get("x-eagleray-warnings") or "[]")
        return warnings

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[bytes, http.client.HTTPMessage]:
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None:
            headers["content-type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(
                method, self._url.path + path, None if body is None else json.dumps(body), headers
            )
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotRunningError(
                f"No Eagleray could be reached at {self.address}: {error or type(error).__name__}. "
                "Start one with `eagleray start`, or name another with --address."
            ) from None
        finally:
            connection.close()
        if reply.status != 200:
            raise self._error(reply.status, text)
        return text, reply.headers

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    def _error(self, status: int, body: bytes) -> EaglerayError:
        text = body.decode("utf-8", "replace")
        if text.startswith('{"error":'):
            text = str(json.loads(text)["error"])
        if status in (401, 403):
            return EaglerayError(
                f"{self.address} has refused: {text} Set EAGLERAY_TOKEN or EAGLERAY_TOKEN_FILE to its admin token."
            )
        kind = _ERRORS.get(status)
        return kind(text) if kind else EaglerayError(f"{self.address} has answered {status}: {text}")


def find_token(address: str) -> str:
    """The token for `address`; empty when none is known. Raises ConfigError when EAGLERAY_TOKEN_FILE cannot be read."""
    settings = Settings.from_env()
    if settings.token:
        return settings.token.strip()
    if settings.token_file:
        return _read(settings.token_file, is_required=True)
    wanted = _local_port(_split(address))
    for directory in runtime_dirs(settings) if wanted else ():
        known = _read(os.path.join(directory, URL_FILE))
        if known and _local_port(urlsplit(known)) == wanted:
            return _read(os.path.join(directory, ADMIN_FILE))
    return ""


def _read(path: str, *, is_required: bool = False) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        if is_required:
            raise ConfigError(f"EAGLERAY_TOKEN_FILE={path!r} cannot be read: {error}") from None
        return ""


def _split(address: str) -> SplitResult:
    try:
        url = urlsplit(address)
        is_fit = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not url.query
    except ValueError:
        is_fit = False
    if not is_fit:
        raise ConfigError(f"'{address}' is no address of a REST server: write http://host:port.")
    return url


def _local_port(url: SplitResult) -> int | None:
    """The port, when it is one of this machine."""
    host = url.hostname or ""
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    return url.port if is_local else None
