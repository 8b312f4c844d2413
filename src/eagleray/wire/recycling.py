"""What a replica tells the controller when it has served its time."""

from __future__ import annotations

from eagleray.wire.control import Message


class Expire(Message):
    """Body of `expire`: this replica is to be replaced, and serves until then. Replies `Empty`."""

    replica_id: str
    reason: str
