"""Questions about the past, over the control socket as over REST."""

from __future__ import annotations

from eagleray.wire.control import Message


class Recollect(Message):
    """Body of `history`, `events` and `overview`. `query` is as behind the `?` of the REST API. Replies `JsonReply`."""

    query: str = ""
