"""What is to be sent, where, how often and for how long; parsed and checked once, before anything is sent.

No I/O. Durations are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from eagleray.base.errors import ConfigError
from eagleray.base.secrets import hide_text

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = ("content-length", "transfer-encoding", "connection")
"""Headers that follow from the other options."""

_SAFE = "/%:@!$&'()*+,;=~?-._[]"


@dataclass(frozen=True)
class Url:
    """A server and what is asked of it. `host` is without brackets."""

    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raises ConfigError, with what to write instead."""
        scheme, found, _ = text.partition("://")
        shown = hide_text(text)
        if not found or scheme.lower() not in ("http", "https", "grpc", "grpcs", "ws", "wss"):
            raise ConfigError(f"'{shown}' is no URL: write http://host:port/path.")
        if scheme.lower() != "http":
            raise ConfigError(
                f"'{shown}': bench speaks plain HTTP/1.1 only, not {scheme}. Measure behind TLS and beside gRPC: give "
                "the http:// address of the server itself, such as that of Eagleray's HTTP proxy."
            )
        try:
            url = urlsplit(text)
            host, port = url.hostname or "", url.port
        except ValueError as error:
            raise ConfigError(f"'{shown}' is no URL: {error}. Write http://host:port/path.") from None
        if not host or port == 0 or url.username is not None:
            raise ConfigError(
                f"'{shown}' is no URL to measure: write http://host:port/path, and credentials as a header "
                "(-H 'Authorization: ...')."
            )
        query = f"?{quote(url.query, safe=_SAFE)}" if url.query else ""
        return cls(host, port or 80, (quote(url.path, safe=_SAFE) or "/") + query)

    def __str__(self) -> str:
        """As it is shown: without secret parameters of the query."""
        return hide_text(f"http://{self.authority}{self.target}")

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL and in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


@dataclass(frozen=True)
class Message:
    """The request that is sent again and again."""

    method: str = "GET"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def encode(self, url: Url, *, keep_alive: bool = True) -> bytes:
        """All bytes of it. Raises ConfigError for what is no HTTP."""
        if not _TOKEN.fullmatch(self.method):
            raise ConfigError(f"The method '{self.method}' is none: expected a word such as GET or POST.")
        given = {name.lower() for name, _ in self.headers}
        lines = [f"{self.method} {url.target} HTTP/1.1"]
        if "host" not in given:
            lines.append(f"Host: {url.authority}")
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or "\r" in value or "\n" in value or "\0" in value:
                raise ConfigError(f"The header '{name}' cannot be sent: expected 'Name: value' in one line.")
            if name.lower() in _OURS:
                raise ConfigError(f"The header '{name}' is set by bench itself: leave it out.")
            lines.append(f"{name}: {value}")
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(self.body)}")
        if not keep_alive:
            lines.append("Connection: close")
        try:
            return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body
        except UnicodeEncodeError:
            raise ConfigError("Headers are Latin-1 text: encode other characters yourself.") from None


@dataclass(frozen=True)
class Plan:
    """How to send. With a `rate` the loop is open; without it each connection asks again when it is answered."""

    rate: float | None = None
    """Requests a second, sent at their times whatever happens to earlier ones."""
    is_poisson: bool = False
    seed: int = 1
    connections: int = 10
    """Of a closed loop, how many there are; of an open one, how many there may be."""
    duration_s: float = 10.0
    requests: int | None = None
    """Ends sooner, after so many that are measured."""
    warm_up_s: float = 1.0
    """Before what is measured; the load is the same."""
    timeout_s: float = 10.0
    """Of one request, from its intended time; connecting is part of it."""
    keep_alive: bool = True


@dataclass(frozen=True)
class Objective:
    """`percentile` percent of all requests get a good answer within `latency_s` of their intended times."""

    latency_s: float
    percentile: float = 99.0
