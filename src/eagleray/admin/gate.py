"""Who may come in: judged from a request's head alone, for every path and method alike, before anything else is.

The order tells a stranger as little as possible: where the request was sent to (against DNS rebinding), which page has
sent it (against forged requests of browsers), then the token. Pure; it must not know routes or bodies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from eagleray.admin.tokens import Role, Tokens
from eagleray.wire.messages import Headers

_SAME_SITE = (b"same-origin", b"none")
"""Values of Sec-Fetch-Site of a request that no foreign page has made."""


class Refusal(Exception):
    """The request ends here, with this status and text. `is_authentication`: somebody may be guessing tokens."""

    def __init__(self, status: int, text: str, *, is_authentication: bool = False) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.is_authentication = is_authentication


class Gate:
    """Loopback addresses and `localhost` are always allowed as Host, beside `hosts` (names without a port)."""

    def __init__(self, tokens: Tokens, hosts: Iterable[str] = ()) -> None:
        self._tokens = tokens
        self._hosts = frozenset(host.lower() for host in hosts if host)

    def admit(self, headers: Headers) -> Role:
        """The caller's role. Raises Refusal: 421, 403 or 401."""
        check_place(headers, self._hosts)
        token = _token(headers)
        if not token:
            raise Refusal(
                401,
                "Unauthorized: Missing authentication token. Send 'Authorization: Bearer <token>'; the token is in "
                "admin.token of the instance's runtime directory.",
                is_authentication=True,
            )
        role = self._tokens.role_of(token)
        if role is Role.NONE:
            raise Refusal(403, "Forbidden: Invalid authentication token.", is_authentication=True)
        return role


def check_place(headers: Headers, hosts: Collection[str] = ()) -> None:
    """Raises Refusal (421, 403) for a request under another name than loopback's and `hosts`, or of another page."""
    host = single(headers, b"host")
    if not _is_ours(host, hosts):
        raise Refusal(
            421,
            f"Misdirected request: {host.decode('latin-1')!r} is not a name of this server. "
            "Use 127.0.0.1 or localhost, or add the name to EAGLERAY_ADMIN_HOSTS.",
        )
    origin = single(headers, b"origin")
    if origin and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
        raise Refusal(403, "Forbidden: requests of other origins are refused.")
    site = single(headers, b"sec-fetch-site")
    if site and site not in _SAME_SITE:
        raise Refusal(403, "Forbidden: requests of other sites are refused.")


def _is_ours(host: bytes, hosts: Collection[str]) -> bool:
    name = _host_name(host.decode("latin-1")).lower()
    if name == "localhost" or name in hosts:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def single(headers: Headers, name: bytes) -> bytes:
    """The value of a field that may be there once, empty without it. Raises Refusal when it is there twice."""
    found = [value for key, value in headers if key == name]
    if len(found) > 1:
        raise Refusal(400, f"Bad request: more than one {name.decode()} header.")
    return found[0] if found else b""


def _token(headers: Headers) -> bytes:
    """Ray's own field counts where `authorization` is used up by something in between."""
    for name in (b"authorization", b"x-ray-authorization"):
        scheme, _, token = single(headers, name).partition(b" ")
        if scheme.lower() == b"bearer" and token.strip():
            return token.strip()
    return b""


def _host_name(host: str) -> str:
    """Without the port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
