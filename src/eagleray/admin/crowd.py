"""Who is connected to the REST server, and who has to go when it is full: first those who have shown no token.

Any user of this machine may connect. What a stranger holds is worth nothing, so the oldest stranger makes room for
whoever comes, and whoever has a token shows it at once. It must not know tokens or requests.
"""

from __future__ import annotations

import asyncio
from typing import cast

from eagleray.http.connection import HttpConnection, RequestSink
from eagleray.http.connections import Connections


class Crowd:
    """The connections of one server, the oldest first; more than `most` only while the evicted are leaving."""

    def __init__(self, sink: RequestSink, connections: Connections, most: int) -> None:
        self._sink = sink
        self._connections = connections
        self._most = most
        self._strangers: dict[Member, None] = {}
        self._known: dict[Member, None] = {}

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def newcomer(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection: one that is closed at once when nobody can be asked to leave for it."""
        if len(self) >= self._most and not self._make_room():
            return _TurnedAway()
        return Member(self, self._sink, self._connections)

    def enter(self, member: Member) -> None:
        self._strangers[member] = None

    def recognise(self, member: Member) -> None:
        """It has shown a token."""
        if member in self._strangers:
            del self._strangers[member]
            self._known[member] = None

    def leave(self, member: Member) -> None:
        self._strangers.pop(member, None)
        self._known.pop(member, None)

    def _make_room(self) -> bool:
        """Cuts off the oldest stranger; without one the oldest that nothing is being done for."""
        idle = (member for member in self._known if member.active is None)
        member = next(iter(self._strangers), None) or next(idle, None)
        if member is None:
            return False
        self.leave(member)
        member.abort()
        return True


class Member(HttpConnection):
    """One connection of the crowd."""

    def __init__(self, crowd: Crowd, sink: RequestSink, connections: Connections) -> None:
        super().__init__(sink, connections)
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        super().connection_lost(exc)


class _TurnedAway(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
