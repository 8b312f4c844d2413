"""What one HTTP client may cost: sizes, rates and waits, each a setting with a default.

The defaults are those of the security goals (slow-loris, header and URL bombs, oversized bodies). Waits are judged once
a second, so they are exact to about a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from eagleray.base.errors import ConfigError


@dataclass(frozen=True)
class HttpLimits:
    """Limits of one listener."""

    max_header_bytes: int = 64 * 1024
    """Request line and headers together; beyond: 431."""
    max_headers: int = 100
    """Header fields of one request; beyond: 431."""
    max_url_bytes: int = 16 * 1024
    """Request target; beyond: 414."""
    max_request_body_bytes: int | None = None
    """Request body; beyond: 413, before the request is dispatched where `content-length` tells."""
    header_timeout_s: float = 10.0
    """From the connect, or the first byte of a later request, to the end of its headers; beyond: 408."""
    min_body_rate: float = 1000.0
    """Bytes per second that a client must send of a body, judged over each `body_grace_s`; below: 408."""
    body_grace_s: float = 10.0
    """Seconds over which the rate of a body is judged; pauses that we have asked for do not count."""
    response_stall_s: float = 30.0
    """A client that takes not one byte of its response for so long is cut off."""
    keep_alive_timeout_s: float = 90.0
    """A connection without a request is closed after this."""
    drop_underscore_headers: bool = True
    """Header names with `_` are not forwarded: `-` and `_` are the same to CGI-like code behind us."""
    websocket_max_message_bytes: int = 16 * 1024 * 1024
    """A client's WebSocket message, decompressed; at most 1 GiB. Beyond: close code 1009."""
    websocket_compression: bool = True
    """Whether permessage-deflate is agreed on with clients that offer it."""
    websocket_open_timeout_s: float = 30.0
    """From the handshake to the application's accept, waiting for a replica included; beyond: 408. 0: no limit."""
    websocket_ping_interval_s: float = 20.0
    """A client that is silent for so long gets a ping. 0: none."""
    websocket_ping_timeout_s: float = 20.0
    """A client that stays silent for so long after the ping is gone: close code 1011."""
    websocket_idle_timeout_s: float | None = None
    """A WebSocket without a message in either direction for so long is closed with 1001."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> HttpLimits:
        """Takes the fields that `options` names with a value; other keys belong to others. Raises ConfigError."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            value = options.get(item.name)
            if value is None:
                continue
            if not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"http_options['{item.name}'] must be a number >= 0, got {value!r}")
            values[item.name] = value
        return cls(**values)
