"""WebSockets that somebody watches: see `proxy.observing`."""

from __future__ import annotations

from eagleray.proxy.observing import Watched
from eagleray.proxy.websocket_exchange import WebSocketExchange


class WatchedWebSocket(Watched, WebSocketExchange):
    """A WebSocket that is watched. `watch` is set before it is submitted."""

    __slots__ = ("watch",)
